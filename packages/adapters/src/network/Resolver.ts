/**
 * Resolves public names by asking the name servers of the host. It uses no thread, unlike the system's resolver: there, a
 * few names whose servers never answer would keep all other sandboxes waiting. The host's own file of names and its search
 * domains do not count.
 */
import { type LookupAddress, Resolver } from "node:dns"
import { statSync } from "node:fs"
import type { Lookup } from "./Dialer.ts"

/** Milliseconds of the first try, which doubles for the second. Programs ask again after five seconds. */
const timeout = 1500
const tries = 2

/** Milliseconds that addresses of one version wait for those of the other. */
const waitsFor = 250

/** Milliseconds between two looks whether the host has other name servers. */
const lookEvery = 5000

const changedAt = () => statSync("/etc/resolv.conf", { throwIfNoEntry: false })?.mtimeMs

const isAbsent = ({ code }: NodeJS.ErrnoException) => code === "ENOTFOUND" || code === "ENODATA"

export const make = (): Lookup => {
  let current = { resolver: new Resolver({ timeout, tries }), changed: changedAt(), lookAt: Date.now() + lookEvery }

  const resolver = () => {
    const now = Date.now()
    if (now >= current.lookAt) {
      const changed = changedAt()
      const isSame = changed === current.changed
      current = {
        resolver: isSame ? current.resolver : new Resolver({ timeout, tries }),
        changed,
        lookAt: now + lookEvery
      }
    }
    return current.resolver
  }

  return (name, done) => {
    const found: Array<LookupAddress> = []
    const errors: Array<NodeJS.ErrnoException> = []
    let late: NodeJS.Timeout | undefined
    let isDone = false
    const finish = () => {
      if (isDone) return
      isDone = true
      clearTimeout(late)
      if (found.length > 0) return done(null, found)
      const error = errors.find((error) => !isAbsent(error)) ?? errors[0]!
      done(isAbsent(error) ? Object.assign(error, { code: "ENOTFOUND" }) : error, [])
    }
    const take = (family: 4 | 6) => (error: NodeJS.ErrnoException | null, addresses: ReadonlyArray<string>) => {
      if (error === null) found.push(...addresses.map((address) => ({ address, family })))
      else errors.push(error)
      if (late !== undefined || (error !== null && isAbsent(error) && error.code === "ENOTFOUND")) return finish()
      late = setTimeout(finish, found.length > 0 ? waitsFor : 2 * tries * timeout)
    }
    resolver().resolve4(name, take(4))
    resolver().resolve6(name, take(6))
  }
}
