/**
 * A small process that starts others for the server. To start a process is to copy the page tables of the one that
 * does it: 7 ms for a server with a database inside, 1 ms for this one, and the server waits for neither.
 */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { type ChildProcess, fork } from "node:child_process"
import { fileURLToPath } from "node:url"
import type { Ended, Order, Program, Report, Until, Withdrawal } from "./Spawn.ts"

interface Spawner {
  readonly child: ChildProcess
  readonly waiting: Map<number, (ended: Ended | Error) => void>
}

let current: Spawner | undefined
let orders = 0

const begin = (): Spawner => {
  const child = fork(fileURLToPath(new URL("./spawner-process.ts", import.meta.url)), {
    // Nothing of the server's environment is needed there, and nothing of it shall get any further.
    env: {},
    execArgv: [],
    stdio: ["ignore", "ignore", "inherit", "ipc"]
  })
  const waiting = new Map<number, (ended: Ended | Error) => void>()
  const spawner = { child, waiting }
  child.on("message", ({ ended, id }: Report) => {
    waiting.get(id)?.(ended)
    settle(spawner, id)
  })
  const gone = () => {
    if (current === spawner) current = undefined
    for (const [id, tell] of waiting) {
      tell(new Error("the process that starts others ended"))
      settle(spawner, id)
    }
  }
  child.on("error", gone)
  child.on("exit", gone)
  child.unref()
  child.channel!.unref()
  return spawner
}

/** While somebody waits for a report this process has reason to live. */
const settle = ({ child, waiting }: Spawner, id: number) => {
  waiting.delete(id)
  if (waiting.size === 0) child.channel?.unref()
}

/** Starts a program and waits for what is asked; an interruption kills it. */
export const spawned = (operation: string, program: Program, until: Until): Effect.Effect<Ended, SandboxUnavailable> =>
  Effect.callback((resume) => {
    const spawner = (current ??= begin())
    const id = orders++
    spawner.child.channel?.ref()
    spawner.waiting.set(id, (ended) =>
      resume(
        ended instanceof Error
          ? Effect.fail(new SandboxUnavailable({ operation, retryable: true, cause: ended }))
          : Effect.succeed(ended)
      )
    )
    spawner.child.send({ id, program, until } satisfies Order)
    return Effect.sync(() => {
      settle(spawner, id)
      if (spawner.child.connected) spawner.child.send({ id, kill: true } satisfies Withdrawal)
    })
  })

/** Runs a program to its end. */
export const run = (operation: string, command: ReadonlyArray<string>, options: Omit<Program, "command">) =>
  spawned(operation, { command, ...options }, "ended")
