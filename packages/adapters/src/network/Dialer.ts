/** Opens connections from the host to what sandboxes may reach, and to no other address. */
import { isPublicAddress } from "@castellan/domain/network/addresses.ts"
import type { LookupAddress } from "node:dns"
import { connect, type LookupFunction, type Socket } from "node:net"
import { networkInterfaces } from "node:os"
import * as tls from "node:tls"
import * as Resolver from "./Resolver.ts"

/** Where the operator has a name reached: the port is the one for connections that the URL's scheme stands for. */
export type EgressHosts = ReadonlyMap<string, ReadonlyArray<URL>>

/** Resolves a name to all of its addresses. */
export type Lookup = (
  name: string,
  done: (error: Error | null, addresses: ReadonlyArray<LookupAddress>) => void
) => void

/** A name resolves to no public address. */
export class NoPublicAddress extends Error {
  readonly code = "ENOPUBLICADDRESS"
  constructor(name: string) {
    super(`${name} has no public address`)
  }
}

export interface Target {
  readonly host: string
  readonly port: number
}

export interface Dialer {
  /** Whether a name can be reached at all; rejects with `NoPublicAddress` or what the resolver says. */
  readonly check: (name: string) => Promise<void>
  /** Whether the operator has the host reached elsewhere. */
  readonly isMapped: (host: string) => boolean
  /** Whether the operator has the host reached without TLS, though the sandbox speaks TLS to it. */
  readonly dropsTls: (host: string) => boolean
  /** A connection that is being opened, for bytes that are TLS or not. Its `error` may come at any time. */
  readonly dial: (target: Target, isTls: boolean) => Socket
  /** A connection on which TLS is spoken with a host whose certificate is checked. */
  readonly dialTls: (target: Target) => Socket
}

/** How long the addresses of this host are remembered, in milliseconds. */
const ownFor = 10_000

/** How long names are remembered to be reachable, in milliseconds, and how many of them. */
const checkedFor = 30_000
const checkedAtMost = 10_000

const defaultPort = (url: URL) => Number(url.port || (url.protocol === "https:" ? 443 : 80))

export interface DialerOptions {
  /** These are exempt from the ban on addresses that are not public, since the operator named them. */
  readonly hosts?: EgressHosts
  /** Certificates in PEM that are trusted besides those of Node and of the system. */
  readonly trusted?: ReadonlyArray<string>
  readonly lookup?: Lookup
  /** The addresses of this host. Through them, programs would reach what a firewall keeps from the internet. */
  readonly own?: () => Iterable<string>
}

const addressesOfHost = () =>
  Object.values(networkInterfaces()).flatMap((addresses = []) => addresses.map(({ address }) => address))

export const make = ({
  hosts = new Map(),
  lookup = Resolver.make(),
  own = addressesOfHost,
  trusted = []
}: DialerOptions): Dialer => {
  let ofHost = { addresses: new Set<string>(), until: 0 }

  const isOwn = (address: string) => {
    const now = Date.now()
    if (ofHost.until <= now) ofHost = { addresses: new Set(own()), until: now + ownFor }
    return ofHost.addresses.has(address)
  }

  let secureContext: tls.SecureContext | undefined
  const checked = new Map<string, number>()

  const publicAddresses = (name: string) =>
    new Promise<ReadonlyArray<LookupAddress>>((resolve, reject) => {
      lookup(name, (error, addresses) => {
        if (error !== null) return reject(error)
        const reachable = addresses.filter(({ address }) => isPublicAddress(address) && !isOwn(address))
        if (reachable.length === 0) return reject(new NoPublicAddress(name))
        resolve(reachable)
      })
    })

  /** Node dials what this gives, so an address is checked and dialled in one resolution. */
  const lookupPublic: LookupFunction = (name, options, done) => {
    publicAddresses(name).then(
      (addresses) => {
        const [first] = addresses as [LookupAddress]
        return options.all ? done(null, [...addresses]) : done(null, first.address, first.family)
      },
      (error: Error) => done(error, "")
    )
  }

  const check = async (name: string) => {
    if (hosts.has(name)) return
    const now = Date.now()
    if ((checked.get(name) ?? 0) > now) return
    await publicAddresses(name)
    if (checked.size >= checkedAtMost) checked.clear()
    checked.set(name, now + checkedFor)
  }

  const urlOf = (host: string, isTls: boolean) => {
    const mapped = hosts.get(host)
    return mapped?.find(({ protocol }) => (protocol === "https:") === isTls) ?? mapped?.[0]
  }

  const dropsTls = (host: string) => urlOf(host, true)?.protocol === "http:"

  const dial = ({ host, port }: Target, isTls: boolean) => {
    const url = urlOf(host, isTls)
    return url === undefined
      ? connect({ host, port, lookup: lookupPublic, allowHalfOpen: true, autoSelectFamily: true })
      : connect({ host: url.hostname.replace(/^\[(.*)\]$/, "$1"), port: defaultPort(url), allowHalfOpen: true })
  }

  const dialTls = (target: Target) => {
    const socket = dial(target, true)
    if (dropsTls(target.host)) return socket
    secureContext ??= tls.createSecureContext({
      ca: [...new Set([...tls.getCACertificates("default"), ...tls.getCACertificates("system"), ...trusted])]
    })
    return tls.connect({ socket, servername: target.host, ALPNProtocols: ["http/1.1"], secureContext })
  }

  return { check, dial, dialTls, dropsTls, isMapped: (host) => hosts.has(host) }
}
