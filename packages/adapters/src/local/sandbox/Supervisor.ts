/** Adopts the sandboxes of earlier servers at the start, and watches all sandboxes of the data directory after that. */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Clock, Effect, Option, Schedule } from "effect"
import type { Isolation, RunningSandbox } from "../isolation/Isolation.ts"
import type { Locks } from "../process/Locks.ts"
import type { Layout } from "../storage/Layout.ts"
import { incarnationOf, type SandboxRecord } from "../storage/SandboxRecord.ts"
import type * as Commands from "./Commands.ts"
import type { Deadlines } from "./Deadlines.ts"
import type { Images } from "./Images.ts"
import type { Layers } from "./Layers.ts"
import type { Lifecycle } from "./Lifecycle.ts"
import { killOrphans } from "./Orphans.ts"
import type { SandboxProcesses } from "./SandboxProcesses.ts"
import type { SandboxRecords } from "./SandboxRecords.ts"
import type * as Watchdog from "./Watchdog.ts"

/** Milliseconds between two checks of the sandboxes that run. */
const checkEvery = 1000

/** Sandboxes not known to run that one check reads: another process may have started them. */
const othersPerCheck = 25

export interface SupervisorDependencies {
  readonly layout: Layout
  readonly isolation: Pick<Isolation, "killRemaining">
  readonly locks: Locks
  readonly records: SandboxRecords
  readonly processes: SandboxProcesses
  readonly images: Images
  readonly layers: Layers
  readonly commands: ReturnType<typeof Commands.make>
  readonly deadlines: Deadlines
  readonly lifecycle: Pick<Lifecycle, "stop">
  readonly watchdog: ReturnType<typeof Watchdog.make>
  /** Opens the network of a running sandbox in the background, unless it is open. */
  readonly openNetwork: (name: SandboxName) => Effect.Effect<unknown>
  /** Closes the networks of sandboxes that no longer run. */
  readonly closeEndedNetworks: Effect.Effect<void>
  /** Whether there is nothing to open now. `now` is in epoch milliseconds. */
  readonly isNetworkSettled: (sandbox: RunningSandbox, now: number) => boolean
}

/** Adopts what is there, then watches in the background until the scope closes. */
export const run = Effect.fnUntraced(function* (dependencies: SupervisorDependencies) {
  const {
    commands,
    deadlines,
    images,
    isolation,
    layers,
    layout,
    lifecycle,
    locks,
    closeEndedNetworks,
    isNetworkSettled,
    openNetwork,
    processes,
    records,
    watchdog
  } = dependencies

  /** Sets the timers of a running sandbox and its commands, whichever process started them. */
  const track = Effect.fnUntraced(function* (record: SandboxRecord) {
    yield* deadlines.track(record)
    yield* openNetwork(record.name)
    const unfinished = yield* commands.unfinished(layout.sandbox(record.name))
    for (const { deadline, id } of unfinished) yield* deadlines.trackCommand(record.name, id, deadline)
  })

  const adoptOne = Effect.fnUntraced(function* (name: SandboxName) {
    const record = yield* records.saveObserved(name)
    if (record === undefined) {
      yield* processes.remove(name)
    } else if (record.status === "running") {
      yield* track(record)
    } else if (record.status !== "pending") {
      yield* processes.endProcesses(layout.sandbox(name), name)
      if (!(yield* images.isLost(record))) yield* images.completePending(record)
    }
  })

  const adopt = Effect.gen(function* () {
    yield* killOrphans(layout, isolation.killRemaining)
    for (const name of yield* records.names) yield* locks.sandbox(name)(adoptOne(name))
    yield* layers.collectUnused
    yield* layers.removeLeftovers
    yield* images.removeLeftovers
  })

  /** The names that are still to be read in this round through all sandboxes. */
  let others: Array<SandboxName> = []

  /** Finds sandboxes that another process started, which may have died since. */
  const checkOthers = Effect.gen(function* () {
    if (others.length === 0) others = yield* records.names
    for (const name of others.splice(0, othersPerCheck)) {
      if (deadlines.running.has(name)) continue
      const record = yield* records.find(name)
      if (record?.status === "running") yield* track(record)
    }
  })

  /** Stores which sandboxes ended by themselves, and stops those that exceed a limit. */
  const check = Effect.gen(function* () {
    const running: Array<RunningSandbox> = []
    const now = yield* Clock.currentTimeMillis
    for (const [name, expiresAt] of deadlines.running) {
      const sandbox = yield* Effect.option(records.getRunning(name))
      if (Option.isSome(sandbox)) {
        running.push(sandbox.value)
        if (!isNetworkSettled(sandbox.value, now)) yield* openNetwork(name)
        if (sandbox.value.record.expiresAt !== expiresAt) yield* deadlines.track(sandbox.value.record)
      } else {
        deadlines.running.delete(name)
        yield* locks.sandbox(name)(records.saveObserved(name))
      }
    }
    for (const { reason, record } of yield* watchdog(running)) {
      yield* lifecycle.stop(record.name, "failed", reason, incarnationOf(record))
    }
    yield* checkOthers
    yield* closeEndedNetworks
  })

  yield* adopt
  const checkOrLog = Effect.catchCause(check, (cause) => Effect.logWarning("Failed to check local sandboxes", cause))
  yield* Effect.forkScoped(Effect.repeat(checkOrLog, Schedule.spaced(checkEvery)))
})
