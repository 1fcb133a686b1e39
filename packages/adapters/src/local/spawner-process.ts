/** The process of `Spawner.ts`: starts what it is told to, and ends with the server. What it started lives on. */
import type { ChildProcess } from "node:child_process"
import { type Order, type Report, startUntil, type Withdrawal } from "./Spawn.ts"

const children = new Map<number, ChildProcess>()

process.on("message", (message: Order | Withdrawal) => {
  if ("kill" in message) {
    children.get(message.id)?.kill("SIGKILL")
    return
  }
  const { id, program, until } = message
  const child = startUntil(program, until, (ended) => {
    children.delete(id)
    // The server may be gone by now.
    process.send?.({ id, ended } satisfies Report, undefined, undefined, () => undefined)
  })
  if (child !== undefined) children.set(id, child)
})

process.on("disconnect", () => process.exit(0))

// It shares the server's stderr, whose reader may be gone.
process.stderr.on("error", () => undefined)

// A terminal's interrupt goes to all of its processes; this one goes when the server does.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => undefined)
