/** Processes that have the provider open over one directory, and orders to them. */
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

/** What a process is told to do with a sandbox; lifetimes are milliseconds. */
export type Order = { readonly name: SandboxName } & (
  | {
      readonly do: "create"
      readonly from?: SnapshotId
      readonly lifetime: number
      readonly ports?: ReadonlyArray<Port>
      readonly registry?: boolean
    }
  /** Connects to the port, and reads what comes. */
  | { readonly do: "read"; readonly port: Port }
  | { readonly do: "resume" | "extend"; readonly lifetime: number }
  | { readonly do: "stop"; readonly only?: string }
  | { readonly do: "find" | "remove" | "snapshot" | "snapshots" }
  | { readonly do: "forget"; readonly from: SnapshotId }
  | { readonly do: "sh"; readonly script: string }
  /** Starts a command and does not wait for it. */
  | { readonly do: "start"; readonly id: CommandId; readonly script: string; readonly timeout: number }
  /** How the command ended, once it has. */
  | { readonly do: "wait"; readonly id: CommandId }
)

/** A sandbox as it is told of. */
export interface Seen {
  readonly incarnation: string
  readonly reason: string | null
  readonly status: string
}

/** What a process answers: what the order gave, or the tag of its failure. */
export interface Answer {
  readonly id: number
  readonly gave?: unknown
  readonly failed?: string
  readonly why?: string
}

const program = fileURLToPath(new URL("./provider-process.ts", import.meta.url))

const begin = async (directory: string, registry: string) => {
  const child = spawn(process.execPath, [program, directory, registry], { stdio: ["pipe", "pipe", "inherit"] })
  const waiting = new Map<number, (answer: Answer) => void>()
  let orders = 0
  let dead = false
  const ready = new Promise<Answer>((resolve) => waiting.set(-1, resolve))
  createInterface({ input: child.stdout }).on("line", (line) => {
    // Whatever it logs stands between the answers.
    if (!line.startsWith('{"')) return
    const answer = JSON.parse(line) as Answer
    waiting.get(answer.id)?.(answer)
    waiting.delete(answer.id)
  })
  child.stdin.on("error", () => undefined)
  const exit = once(child, "exit").then(() => {
    dead = true
    for (const [id, tell] of waiting) tell({ id, failed: "Killed" })
  })
  const ask = (order: Order) =>
    new Promise<Answer>((resolve) => {
      const id = orders++
      if (dead) return resolve({ id, failed: "Killed" })
      waiting.set(id, resolve)
      child.stdin.write(`${JSON.stringify({ id, order })}\n`)
    })
  const kill = async () => {
    child.kill("SIGKILL")
    await exit
  }
  const { failed } = await ready
  if (failed !== undefined) throw new Error("the process did not begin")
  return { child, ask, kill }
}

export type ProviderProcess = Effect.Success<ReturnType<typeof providerProcess>>

/** A process that has the provider open; it is killed with the scope. */
export const providerProcess = (directory: string, registry = "") =>
  Effect.acquireRelease(
    Effect.promise(() => begin(directory, registry)),
    ({ kill }) => Effect.promise(kill)
  ).pipe(
    Effect.map(({ ask, child, kill }) => ({
      child,
      /** The answer, whatever it is. */
      answer: (order: Order) => Effect.promise(() => ask(order)),
      /** What the order gives; it has to succeed. */
      told: <A = Seen>(order: Order): Effect.Effect<A> =>
        Effect.flatMap(
          Effect.promise(() => ask(order)),
          ({ failed, gave, why }) =>
            failed === undefined
              ? Effect.succeed(gave as A)
              : Effect.die(new Error(`${order.do} failed: ${failed} ${why}`))
        ),
      kill: Effect.promise(kill)
    }))
  )

/** The processes that live now, each with what is to be known of it. */
const processes = <A>(look: (pid: string) => A | undefined): ReadonlyMap<number, A> =>
  new Map(
    readdirSync("/proc")
      .filter((entry) => /^\d+$/.test(entry))
      .flatMap((pid) => {
        try {
          const seen = look(pid)
          return seen === undefined ? [] : [[Number(pid), seen] as const]
        } catch {
          // It has ended.
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

/** The first processes of the sandboxes that are up, by the sandboxes' names: more than one of a name is one too many. */
export const allInits = (): ReadonlyMap<string, ReadonlyArray<number>> => {
  const all = processes((pid) => {
    const words = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
    const [word, , name = ""] = words.slice(-4)
    if (words[0] !== "unshare" || word !== "begin") return undefined
    // One that comes late sees that it is not wanted while it still has the host's root.
    return inodeOf(`/proc/${pid}/root/.`) === inodeOf("/") ? undefined : { name, parent: parentOf(pid) }
  })
  const inits = new Map<string, ReadonlyArray<number>>()
  for (const [pid, { name, parent }] of all) {
    // What a program has just forked bears its name until it is another program.
    if (!all.has(parent)) inits.set(name, [...(inits.get(name) ?? []), pid])
  }
  return inits
}

export const initsOf = (name: string): ReadonlyArray<number> => allInits().get(name) ?? []

/** The names of sandboxes that run more than once, for longer than it takes to look twice. */
export const runningTwice = (): ReadonlyArray<string> => {
  const twice = (inits: ReadonlyArray<number>) => inits.length > 1
  const suspects = [...allInits()].filter(([, inits]) => twice(inits))
  if (suspects.length === 0) return []
  const again = allInits()
  return suspects.flatMap(([name, inits]) =>
    twice(inits.filter((pid) => again.get(name)?.includes(pid) === true)) ? [name] : []
  )
}

/** The processes that have something of the directory mounted. */
export const mounting = (directory: string): ReadonlyArray<number> => [
  ...processes((pid) => (readFileSync(`/proc/${pid}/mountinfo`, "utf8").includes(directory) ? true : undefined)).keys()
]

/** The gateways to the networks of these first processes, dead or alive. */
export const gatewaysTo = (inits: ReadonlyArray<number>): ReadonlyArray<number> => [
  ...processes((pid) => {
    const [program, option, , init] = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0")
    return program === "/proc/self/fd/4" && option === "-e" && inits.includes(Number(init)) ? true : undefined
  }).keys()
]
