/** Stops sandboxes at the end of their lifetime, and kills commands that outlived their deadline. */
import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Clock, Effect, FiberMap } from "effect"
import type { Locks } from "../process/Locks.ts"
import type { Layout } from "../storage/Layout.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"
import type * as Commands from "./Commands.ts"
import type { SandboxProcesses } from "./SandboxProcesses.ts"
import { lifetimeEnded, type SandboxRecords } from "./SandboxRecords.ts"

/** Milliseconds after its deadline when the server kills a command that its own wrapper should have killed. */
const commandGrace = 10_000

export const make = Effect.fnUntraced(function* (
  layout: Layout,
  locks: Locks,
  records: SandboxRecords,
  processes: SandboxProcesses,
  commands: ReturnType<typeof Commands.make>
) {
  const timers = yield* FiberMap.make<string>()
  /** The end of the lifetime of each sandbox that runs or did so at the last check, in epoch milliseconds. */
  const running = new Map<SandboxName, number>()

  /** Runs an action at a moment in epoch milliseconds, and again at each moment that it returns. */
  const schedule = (key: string, moment: number, action: Effect.Effect<number | void, unknown>) => {
    const runAt = (moment: number): Effect.Effect<void, unknown> =>
      Clock.currentTimeMillis.pipe(
        Effect.flatMap((now) => Effect.sleep(Math.max(0, moment - now))),
        Effect.andThen(action),
        Effect.flatMap((next) => (next === undefined ? Effect.void : runAt(next)))
      )
    return FiberMap.run(timers, key, Effect.ignore(runAt(moment)))
  }

  /** Stops a sandbox at the end of its lifetime. Returns the new end if another process has extended the lifetime. */
  const expire = (name: SandboxName) =>
    locks.sandbox(name)(
      Effect.gen(function* () {
        const record = yield* records.find(name)
        if (record?.status !== "running") return
        if (record.expiresAt > (yield* Clock.currentTimeMillis)) return record.expiresAt
        yield* processes.stop(record, "stopped", lifetimeEnded)
      })
    )

  /** Stops the sandbox at the end of its lifetime. Replaces an earlier timer of the sandbox. */
  const track = (record: SandboxRecord) => {
    running.set(record.name, record.expiresAt)
    return schedule(`sandbox ${record.name}`, record.expiresAt, expire(record.name))
  }

  const cancel = (name: SandboxName) => FiberMap.remove(timers, `sandbox ${name}`)

  /** Kills a command some time after its deadline, in epoch milliseconds. */
  const trackCommand = (name: SandboxName, id: CommandId, deadline: number) => {
    const kill = Effect.flatMap(records.getRunning(name), (sandbox) => commands.kill(sandbox, id, "timedOut"))
    const killUnlessEnded = Effect.flatMap(commands.find(layout.sandbox(name), id), ({ end }) =>
      end === null ? kill : Effect.void
    )
    return schedule(`command ${name} ${id}`, deadline + commandGrace, killUnlessEnded)
  }

  return { running, track, cancel, trackCommand }
})

export type Deadlines = Effect.Success<ReturnType<typeof make>>
