/** Creates, resumes, extends, stops, snapshots and removes sandboxes, each under the sandbox's lock. */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxGone, type SandboxSpec, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { Snapshot } from "@castellan/domain/sandbox/Snapshot.ts"
import { Clock, Duration, Effect, Option } from "effect"
import type { Isolation } from "../isolation/Isolation.ts"
import type { Locks } from "../process/Locks.ts"
import { randomId } from "../storage/files.ts"
import { incarnationOf, type SandboxRecord } from "../storage/SandboxRecord.ts"
import type { Deadlines } from "./Deadlines.ts"
import type { Flattened, Images } from "./Images.ts"
import type { Layers } from "./Layers.ts"
import type { SandboxProcesses } from "./SandboxProcesses.ts"
import type { SandboxRecords } from "./SandboxRecords.ts"

export interface LifecycleDependencies {
  readonly isolation: Pick<Isolation, "allocateUser">
  readonly locks: Locks
  readonly records: SandboxRecords
  readonly processes: SandboxProcesses
  readonly images: Images
  readonly layers: Layers
  readonly deadlines: Deadlines
  /** Succeeds once the package registry can be used. */
  readonly registry: Effect.Effect<unknown, SandboxUnavailable>
  /** Opens the network of a running sandbox in the background. */
  readonly openNetwork: (name: SandboxName) => Effect.Effect<unknown>
}

/** The record of a new sandbox that is about to start. `now` is in epoch milliseconds. */
const pendingRecord = (
  spec: SandboxSpec,
  now: number,
  { chain, user }: Pick<SandboxRecord, "chain" | "user">
): SandboxRecord => ({
  name: spec.name,
  createdAt: now,
  expiresAt: now + Duration.toMillis(spec.lifetime),
  status: "pending",
  incarnation: randomId(),
  reason: null,
  chain,
  ports: spec.ports ?? [],
  registry: spec.registry ?? false,
  ...(spec.network === undefined ? {} : { network: spec.network }),
  ...(user === undefined ? {} : { user }),
  bootId: ""
})

export const make = (dependencies: LifecycleDependencies) => {
  const { deadlines, images, isolation, layers, locks, openNetwork, processes, records, registry } = dependencies

  const create = Effect.fnUntraced(function* (spec: SandboxSpec) {
    const known = yield* records.find(spec.name)
    if (known !== undefined && known.status !== "pending") return known
    if (spec.registry) yield* registry
    const now = yield* Clock.currentTimeMillis
    const record = (from: Pick<SandboxRecord, "chain" | "user">) => records.create(pendingRecord(spec, now, from))
    // The files of a creation that was cut off belong to the user that it chose.
    const user = known === undefined ? isolation.allocateUser() : known.user === undefined ? {} : { user: known.user }
    const pending = yield* Option.isSome(spec.from)
      ? layers.useSnapshot(spec.from.value, record)
      : record({ chain: [], ...user })
    const booted = yield* processes.bootNew(pending)
    yield* deadlines.track(booted)
    yield* openNetwork(booted.name)
    return booted
  })

  const resume = Effect.fnUntraced(function* (name: SandboxName, lifetime: Duration.Duration) {
    const known = yield* records.get(name)
    if (known.status === "running") return known
    if (yield* images.isLost(known)) {
      yield* processes.remove(name)
      return yield* new SandboxGone({ name })
    }
    if (known.registry) yield* registry
    const record = yield* images.completePending(known)
    const expiresAt = (yield* Clock.currentTimeMillis) + Duration.toMillis(lifetime)
    const booted = yield* processes.boot({ ...record, expiresAt, incarnation: randomId() })
    yield* deadlines.track(booted)
    yield* openNetwork(booted.name)
    return booted
  })

  const extend = Effect.fnUntraced(function* (name: SandboxName, by: Duration.Duration) {
    const { record } = yield* records.getRunning(name)
    const extended = yield* records.save({ ...record, expiresAt: record.expiresAt + Duration.toMillis(by) })
    yield* deadlines.track(extended)
    return extended
  })

  /** Does nothing if the sandbox is gone, or if it now has another incarnation than `incarnation`. */
  const stop = (name: SandboxName, status: "stopped" | "failed", reason: string | null, incarnation?: string) =>
    locks.sandbox(name)(
      Effect.gen(function* () {
        const record = yield* records.find(name)
        if (record === undefined || (incarnation !== undefined && incarnationOf(record) !== incarnation)) return
        yield* processes.stop(record, status, reason)
      })
    )

  const remove = (name: SandboxName) =>
    Effect.andThen(
      locks.sandbox(name)(Effect.andThen(processes.remove(name), deadlines.cancel(name))),
      layers.collectUnused
    )

  /** Takes a snapshot unless the sandbox's chain of layers must be flattened first. */
  const takeUnlessTooLong = (name: SandboxName, flattened?: Flattened) =>
    locks.sandbox(name)(
      Effect.gen(function* () {
        const record = yield* records.get(name)
        if (images.needsFlattening(record, flattened)) return Option.none<Snapshot>()
        const stopped = yield* processes.stop(record, "stopped", "It was stopped to take a snapshot")
        return Option.some(yield* images.take(stopped, yield* Clock.currentTimeMillis, flattened))
      })
    )

  const flattenAndTake = Effect.fnUntraced(function* (name: SandboxName) {
    const record = yield* locks.sandbox(name)(Effect.flatMap(records.get(name), images.completePending))
    if (!images.needsFlattening(record)) return Option.none<Snapshot>()
    return yield* images
      .flatten(record, (flattened) => takeUnlessTooLong(name, flattened))
      .pipe(
        // If the sandbox was removed during the copy, its layers may be gone: fail with `SandboxGone`.
        Effect.tapError(() => records.get(name))
      )
  })

  const snapshot = (name: SandboxName): Effect.Effect<Snapshot, SandboxGone | SandboxUnavailable> =>
    Effect.gen(function* () {
      const taken = yield* takeUnlessTooLong(name)
      if (Option.isSome(taken)) return taken.value
      const flattened = yield* locks.flattening(name)(flattenAndTake(name))
      return Option.isSome(flattened) ? flattened.value : yield* snapshot(name)
    })

  return {
    create: (spec: SandboxSpec) => locks.sandbox(spec.name)(create(spec)),
    resume: (name: SandboxName, lifetime: Duration.Duration) => locks.sandbox(name)(resume(name, lifetime)),
    extend: (name: SandboxName, by: Duration.Duration) => locks.sandbox(name)(extend(name, by)),
    stop,
    remove,
    snapshot
  }
}

export type Lifecycle = ReturnType<typeof make>
