/** Starts processes that share the data directory of a local provider, and sends them requests. */
import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readdirSync, readFileSync, statSync } from "node:fs"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"

/** An operation on a sandbox. Lifetimes and timeouts are in milliseconds. */
export type ProviderRequest = { readonly name: SandboxName } & (
  | {
      readonly do: "create"
      readonly from?: SnapshotId
      readonly lifetime: number
      readonly ports?: ReadonlyArray<Port>
      readonly registry?: boolean
    }
  /** Connects to the port and reads until the other side ends. */
  | { readonly do: "read"; readonly port: Port }
  | { readonly do: "resume" | "extend"; readonly lifetime: number }
  | { readonly do: "stop"; readonly only?: string }
  | { readonly do: "find" | "remove" | "snapshot" | "snapshots" }
  | { readonly do: "forget"; readonly from: SnapshotId }
  | { readonly do: "sh"; readonly script: string }
  /** Starts a command without waiting for its end. */
  | { readonly do: "start"; readonly id: CommandId; readonly script: string; readonly timeout: number }
  /** Waits for the command and returns how it ended. */
  | { readonly do: "wait"; readonly id: CommandId }
)

/** The parts of a sandbox that a response has. */
export interface ObservedSandbox {
  readonly incarnation: string
  readonly reason: string | null
  readonly status: string
}

/** The result of a request: a value, or the tag of the failure with its text. */
export interface ProviderResponse {
  readonly id: number
  readonly value?: unknown
  readonly failed?: string
  readonly reason?: string
}

const program = fileURLToPath(new URL("./provider-process.ts", import.meta.url))

const start = async (directory: string, registry: string) => {
  const child = spawn(process.execPath, [program, directory, registry], { stdio: ["pipe", "pipe", "inherit"] })
  const pending = new Map<number, (response: ProviderResponse) => void>()
  let requests = 0
  let dead = false
  const ready = new Promise<ProviderResponse>((resolve) => pending.set(-1, resolve))
  createInterface({ input: child.stdout }).on("line", (line) => {
    // Log lines appear between the responses.
    if (!line.startsWith('{"')) return
    const response = JSON.parse(line) as ProviderResponse
    pending.get(response.id)?.(response)
    pending.delete(response.id)
  })
  child.stdin.on("error", () => undefined)
  const exit = once(child, "exit").then(() => {
    dead = true
    for (const [id, resolve] of pending) resolve({ id, failed: "Killed" })
  })
  const send = (request: ProviderRequest) =>
    new Promise<ProviderResponse>((resolve) => {
      const id = requests++
      if (dead) return resolve({ id, failed: "Killed" })
      pending.set(id, resolve)
      child.stdin.write(`${JSON.stringify({ id, request })}\n`)
    })
  const kill = async () => {
    child.kill("SIGKILL")
    await exit
  }
  const { failed } = await ready
  if (failed !== undefined) throw new Error("the provider process did not start")
  return { child, send, kill }
}

export type ProviderProcess = Effect.Success<ReturnType<typeof providerProcess>>

/** A process with a local provider in the directory. It is killed when the scope closes. */
export const providerProcess = (directory: string, registry = "") =>
  Effect.acquireRelease(
    Effect.promise(() => start(directory, registry)),
    ({ kill }) => Effect.promise(kill)
  ).pipe(
    Effect.map(({ child, kill, send }) => ({
      child,
      /** Sends a request and returns the response, which may be a failure. */
      tryRequest: (request: ProviderRequest) => Effect.promise(() => send(request)),
      /** Sends a request and returns its value. Dies if the request fails. */
      request: <A = ObservedSandbox>(request: ProviderRequest): Effect.Effect<A> =>
        Effect.flatMap(
          Effect.promise(() => send(request)),
          ({ failed, reason, value }) =>
            failed === undefined
              ? Effect.succeed(value as A)
              : Effect.die(new Error(`${request.do} failed: ${failed} ${reason}`))
        ),
      kill: Effect.promise(kill)
    }))
  )

/** The processes of the host for which `inspect` returns a value, with that value. */
const processes = <A>(inspect: (pid: string) => A | undefined): ReadonlyMap<number, A> =>
  new Map(
    readdirSync("/proc")
      .filter((entry) => /^\d+$/.test(entry))
      .flatMap((pid) => {
        try {
          const value = inspect(pid)
          return value === undefined ? [] : [[Number(pid), value] as const]
        } catch {
          // The process has ended.
          return []
        }
      })
  )

const inodeOf = (path: string) => {
  const { dev, ino } = statSync(path)
  return `${dev} ${ino}`
}

const parentOf = (pid: string): number => {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  return Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1])
}

/** The first processes of the sandboxes that run, by name. More than one of a name is an error of the provider. */
export const allInits = (): ReadonlyMap<string, ReadonlyArray<number>> => {
  const all = processes((pid) => {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
    const [word, name = ""] = words.slice(-3)
    if (words[0] !== "unshare" || word !== "begin") return undefined
    // A late start ends while it still has the host's root.
    return inodeOf(`/proc/${pid}/root/.`) === inodeOf("/") ? undefined : { name, parent: parentOf(pid) }
  })
  const inits = new Map<string, ReadonlyArray<number>>()
  for (const [pid, { name, parent }] of all) {
    // A child has its parent's arguments until it executes another program.
    if (!all.has(parent)) inits.set(name, [...(inits.get(name) ?? []), pid])
  }
  return inits
}

export const initsOf = (name: string): ReadonlyArray<number> => allInits().get(name) ?? []

/** The names of sandboxes with several first processes in two consecutive checks. */
export const runningTwice = (): ReadonlyArray<string> => {
  const twice = (inits: ReadonlyArray<number>) => inits.length > 1
  const suspects = [...allInits()].filter(([, inits]) => twice(inits))
  if (suspects.length === 0) return []
  const again = allInits()
  return suspects.flatMap(([name, inits]) =>
    twice(inits.filter((pid) => again.get(name)?.includes(pid) === true)) ? [name] : []
  )
}

/** The processes whose mounts include a path of the directory. */
export const processesMounting = (directory: string): ReadonlyArray<number> => [
  ...processes((pid) => (readFileSync(`/proc/${pid}/mountinfo`, "utf8").includes(directory) ? true : undefined)).keys()
]

/** The gateway processes for these first processes, which may have ended. */
export const gatewaysTo = (inits: ReadonlyArray<number>): ReadonlyArray<number> => [
  ...processes((pid) => {
    const [program, option, , init] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
    return program === "/proc/self/fd/4" && option === "-e" && inits.includes(Number(init)) ? true : undefined
  }).keys()
]
