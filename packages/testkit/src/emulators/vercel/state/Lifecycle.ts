/** Starts and ends sessions. Callers hold the lock of the sandbox. */
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { Clock, Deferred, Duration, Effect, FiberMap, Option } from "effect"
import { ApiError, refusalOf, snapshotNotFound } from "../wire/responses.ts"
import { randomId, isUsable, type SandboxModel, type SessionModel, type SnapshotModel } from "./models.ts"
import { type EmulatorState, unavailable } from "./EmulatorState.ts"

/** How much longer than the session the provider's sandbox may live, so that the emulator ends the session first. */
const margin = Duration.minutes(5)

/** The default expiration of snapshots after their last use, in ms. */
const usualExpiration = Duration.toMillis(Duration.days(30))

/** Whether the session has ended. */
export const isOver = ({ status }: SessionModel): boolean => status === "stopped" || status === "failed"

/** A session that has not booted yet. */
export const pending = (sandbox: SandboxModel, sourceSnapshotId: string | undefined, now: number): SessionModel => ({
  id: `sbx_${randomId(24)}`,
  sandbox,
  status: "pending",
  createdAt: now,
  updatedAt: now,
  incarnation: "",
  timeout: sandbox.settings.timeout,
  networkPolicy: sandbox.settings.networkPolicy,
  settings: { ...sandbox.settings },
  sourceSnapshotId,
  commands: new Map(),
  closing: Deferred.makeUnsafe()
})

const setStatus = (session: SessionModel, status: SessionModel["status"], now: number) => {
  session.status = status
  session.updatedAt = now
  session.sandbox.statusUpdatedAt = now
  session.sandbox.updatedAt = now
}

const evict = Effect.fnUntraced(function* (state: EmulatorState, sandbox: SandboxModel) {
  const keep = sandbox.settings.keepLastSnapshots
  if (keep === undefined) return
  const now = yield* Clock.currentTimeMillis
  const own = [...state.snapshots.values()].filter(
    (one) => one.sandboxName === sandbox.name && one.owner === sandbox.owner && isUsable(one, now)
  )
  for (const one of own.slice(0, Math.max(0, own.length - keep.count))) {
    if (keep.deleteEvicted ?? true) yield* deleteSnapshot(state, one)
    else one.expiration = keep.expiration ?? usualExpiration
  }
  for (const one of own.slice(-keep.count)) if (keep.expiration !== undefined) one.expiration = keep.expiration
})

/** Deletes a snapshot. It stays listed, and no sandbox boots from it. */
export const deleteSnapshot = Effect.fnUntraced(function* (state: EmulatorState, snapshot: SnapshotModel) {
  yield* Effect.mapError(state.provider.removeSnapshot(snapshot.providerId), unavailable)
  snapshot.status = "deleted"
  snapshot.updatedAt = yield* Clock.currentTimeMillis
})

/** Takes a snapshot of a stopped session; undefined if the provider has lost the sandbox. */
const takeSnapshot = Effect.fnUntraced(function* (
  state: EmulatorState,
  session: SessionModel,
  method: SnapshotModel["method"],
  ms?: number
) {
  const { sandbox } = session
  const taken = yield* state.provider.snapshot(sandbox.providerName).pipe(
    Effect.map(Option.some),
    Effect.catchTag("SandboxGone", () => Effect.succeed(Option.none()))
  )
  if (Option.isNone(taken)) return undefined
  const now = yield* Clock.currentTimeMillis
  const snapshot: SnapshotModel = {
    id: `snap_${randomId(24)}`,
    owner: sandbox.owner,
    providerId: taken.value.id,
    sandboxName: sandbox.name,
    sourceSessionId: session.id,
    parentId: session.sourceSnapshotId,
    region: sandbox.settings.region,
    method,
    createdAt: now,
    updatedAt: now,
    expiration: ms ?? sandbox.settings.snapshotExpiration ?? usualExpiration,
    status: "created"
  }
  state.snapshots.set(snapshot.id, snapshot)
  sandbox.currentSnapshotId = snapshot.id
  sandbox.filesOf = snapshot.id
  session.snapshottedAt = now
  return snapshot
})

interface End {
  readonly as: "stopping" | "snapshotting"
  /** Null to end without a snapshot. */
  readonly method: SnapshotModel["method"] | null
  /** The expiration of the snapshot in ms. */
  readonly expiration?: number | undefined
}

/** Ends a running session, with a snapshot unless `method` is null. The caller holds the lock. */
export const end = (state: EmulatorState, session: SessionModel, { as, expiration, method }: End) =>
  Effect.gen(function* () {
    const { sandbox } = session
    const requestedAt = yield* Clock.currentTimeMillis
    setStatus(session, as, requestedAt)
    session.requestedStopAt = requestedAt
    yield* Deferred.succeed(session.closing, undefined)
    if (session.slowness !== undefined) yield* Effect.sleep(session.slowness)
    yield* state.provider.stop(sandbox.providerName, { incarnation: session.incarnation })
    sandbox.filesOf = undefined
    const snapshot = method === null ? undefined : yield* takeSnapshot(state, session, method, expiration)
    const now = yield* Clock.currentTimeMillis
    session.stoppedAt = now
    setStatus(session, "stopped", now)
    if (snapshot !== undefined) yield* evict(state, sandbox)
    return snapshot
  }).pipe(
    Effect.catchTag("SandboxUnavailable", (error) => {
      setStatus(session, "failed", session.updatedAt)
      return Effect.fail(unavailable(error))
    }),
    Effect.uninterruptible
  )

/** How a session ends by itself: with a snapshot if the sandbox is persistent. */
export const endOf = (sandbox: SandboxModel): End => ({
  as: "stopping",
  method: sandbox.settings.persistent ? "automatic" : null
})

/** Ends a session if it still runs. */
export const expire = (state: EmulatorState, session: SessionModel) =>
  session.sandbox.lock.withPermit(
    Effect.suspend(() =>
      session.status === "running" ? Effect.asVoid(end(state, session, endOf(session.sandbox))) : Effect.void
    )
  )

/** Starts the timer that ends the session at its timeout, and replaces the previous timer. */
export const arm = Effect.fnUntraced(function* (state: EmulatorState, session: SessionModel) {
  const left = session.createdAt + session.timeout - (yield* Clock.currentTimeMillis)
  const over = Effect.andThen(Effect.sleep(Math.max(0, left)), Effect.ignore(expire(state, session)))
  yield* FiberMap.run(state.timers, session.sandbox, over)
})

/** Ends a session that does not run at the provider, and fails with the error for it. */
export const noticed = (state: EmulatorState, session: SessionModel): Effect.Effect<never, ApiError> =>
  Effect.andThen(expire(state, session), Effect.fail(refusalOf("stopped")))

const lifetimeOf = ({ timeout }: SessionModel) => Duration.sum(Duration.millis(timeout), margin)

const begin = Effect.fnUntraced(function* (state: EmulatorState, session: SessionModel, incarnation: string) {
  const { sandbox } = session
  session.incarnation = incarnation
  setStatus(session, "running", yield* Clock.currentTimeMillis)
  const source = session.sourceSnapshotId === undefined ? undefined : state.snapshots.get(session.sourceSnapshotId)
  if (source !== undefined) source.lastUsedAt = session.createdAt
  sandbox.session = session
  if (!sandbox.sessions.includes(session)) sandbox.sessions.push(session)
  state.sessions.set(session.id, session)
  yield* arm(state, session)
})

/** Boots a session, from its snapshot if it has one. The caller holds the lock. */
export const boot = (state: EmulatorState, session: SessionModel) =>
  Effect.gen(function* () {
    const { sandbox } = session
    const snapshot = session.sourceSnapshotId === undefined ? undefined : state.snapshots.get(session.sourceSnapshotId)
    const createSandbox = yield* state.provider.create({
      name: sandbox.providerName,
      from: Option.fromUndefinedOr(snapshot?.providerId),
      lifetime: lifetimeOf(session),
      ports: sandbox.settings.ports.map((port) => Port.make(port)),
      registry: state.registry
    })
    sandbox.declared = sandbox.settings.ports
    yield* begin(state, session, createSandbox.incarnation)
  }).pipe(
    Effect.catchTags({
      SnapshotGone: () => Effect.fail(snapshotNotFound),
      SandboxUnavailable: (error) => Effect.fail(unavailable(error))
    }),
    Effect.uninterruptible
  )

const wake = Effect.fnUntraced(function* (state: EmulatorState, session: SessionModel) {
  const { sandbox } = session
  const woken = yield* state.provider.resume(sandbox.providerName, lifetimeOf(session)).pipe(
    Effect.map(Option.some),
    Effect.catchTag("SandboxGone", () => Effect.succeed(Option.none()))
  )
  if (Option.isNone(woken)) return yield* boot(state, session)
  yield* begin(state, session, woken.value.incarnation)
})

/** Ends a session whose sandbox stopped without the emulator. The caller holds the lock. */
const settle = Effect.fnUntraced(function* (state: EmulatorState, session: SessionModel) {
  if (session.status !== "running") return
  const found = yield* Effect.mapError(state.provider.find(session.sandbox.providerName), unavailable)
  const runs = Option.exists(found, (one) => one.status === "running" && one.incarnation === session.incarnation)
  if (!runs) yield* end(state, session, endOf(session.sandbox))
})

/** Starts a new session from the snapshot if the last session has ended; returns whether it did. */
export const resume = (state: EmulatorState, sandbox: SandboxModel): Effect.Effect<boolean, ApiError> =>
  sandbox.lock.withPermit(
    Effect.gen(function* () {
      yield* settle(state, sandbox.session)
      if (!isOver(sandbox.session)) return false
      const now = yield* Clock.currentTimeMillis
      const current = sandbox.currentSnapshotId
      if (current === undefined && state.withoutSnapshot === "refused") return yield* snapshotNotFound
      if (current !== undefined && !isUsable(state.snapshots.get(current), now)) return yield* snapshotNotFound
      const session = pending(sandbox, current, now)
      const isSame = current !== undefined && current === sandbox.filesOf
      if (isSame && sandbox.declared.join() === sandbox.settings.ports.join()) {
        yield* Effect.catchTag(wake(state, session), "SandboxUnavailable", (error) => Effect.fail(unavailable(error)))
      } else {
        yield* Effect.mapError(state.provider.remove(sandbox.providerName), unavailable)
        yield* boot(state, session)
      }
      return true
    }).pipe(Effect.uninterruptible)
  )
