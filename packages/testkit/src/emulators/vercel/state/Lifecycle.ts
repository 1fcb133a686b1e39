/** How sessions begin and end. Who changes a sandbox's session holds its turn. */
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { Clock, Deferred, Duration, Effect, FiberMap, Option } from "effect"
import { Refused, refusalOf, snapshotNotFound } from "../wire/Answers.ts"
import { fresh, isUsable, type KeptSandbox, type KeptSession, type KeptSnapshot } from "./Kept.ts"
import { type Site, unavailable } from "./Site.ts"

/** How much longer the provider would let a sandbox run: its time is up when the emulator says so. */
const margin = Duration.minutes(5)

/** How long snapshots are kept after their last use, in ms. */
const usualExpiration = Duration.toMillis(Duration.days(30))

/** Whether the session has ended. */
export const isOver = ({ status }: KeptSession): boolean => status === "stopped" || status === "failed"

/** A session that has still to boot. */
export const pending = (sandbox: KeptSandbox, sourceSnapshotId: string | undefined, now: number): KeptSession => ({
  id: `sbx_${fresh(24)}`,
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

const touch = (session: KeptSession, status: KeptSession["status"], now: number) => {
  session.status = status
  session.updatedAt = now
  session.sandbox.statusUpdatedAt = now
  session.sandbox.updatedAt = now
}

const evict = Effect.fnUntraced(function* (site: Site, sandbox: KeptSandbox) {
  const keep = sandbox.settings.keepLastSnapshots
  if (keep === undefined) return
  const now = yield* Clock.currentTimeMillis
  const own = [...site.snapshots.values()].filter(
    (one) => one.sandboxName === sandbox.name && one.owner === sandbox.owner && isUsable(one, now)
  )
  for (const one of own.slice(0, Math.max(0, own.length - keep.count))) {
    if (keep.deleteEvicted ?? true) yield* forget(site, one)
    else one.expiration = keep.expiration ?? usualExpiration
  }
  for (const one of own.slice(-keep.count)) if (keep.expiration !== undefined) one.expiration = keep.expiration
})

/** Deletes a snapshot: it stays listed, and nothing boots from it. */
export const forget = Effect.fnUntraced(function* (site: Site, snapshot: KeptSnapshot) {
  yield* Effect.mapError(site.provider.removeSnapshot(snapshot.providerId), unavailable)
  snapshot.status = "deleted"
  snapshot.updatedAt = yield* Clock.currentTimeMillis
})

/** The files of a stopped session, unless the provider has lost them. */
const keep = Effect.fnUntraced(function* (
  site: Site,
  session: KeptSession,
  method: KeptSnapshot["method"],
  ms?: number
) {
  const { sandbox } = session
  const taken = yield* site.provider.snapshot(sandbox.providerName).pipe(
    Effect.map(Option.some),
    Effect.catchTag("SandboxGone", () => Effect.succeed(Option.none()))
  )
  if (Option.isNone(taken)) return undefined
  const now = yield* Clock.currentTimeMillis
  const snapshot: KeptSnapshot = {
    id: `snap_${fresh(24)}`,
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
  site.snapshots.set(snapshot.id, snapshot)
  sandbox.currentSnapshotId = snapshot.id
  sandbox.filesOf = snapshot.id
  session.snapshottedAt = now
  return snapshot
})

interface End {
  readonly as: "stopping" | "snapshotting"
  /** None where the files are to be lost. */
  readonly method: KeptSnapshot["method"] | null
  /** Of the snapshot, in ms. */
  readonly expiration?: number | undefined
}

/** Ends a running session, with a snapshot if there is to be one; in the sandbox's turn. */
export const end = (site: Site, session: KeptSession, { as, expiration, method }: End) =>
  Effect.gen(function* () {
    const { sandbox } = session
    const requestedAt = yield* Clock.currentTimeMillis
    touch(session, as, requestedAt)
    session.requestedStopAt = requestedAt
    yield* Deferred.succeed(session.closing, undefined)
    if (session.slowness !== undefined) yield* Effect.sleep(session.slowness)
    yield* site.provider.stop(sandbox.providerName, { incarnation: session.incarnation })
    sandbox.filesOf = undefined
    const snapshot = method === null ? undefined : yield* keep(site, session, method, expiration)
    const now = yield* Clock.currentTimeMillis
    session.stoppedAt = now
    touch(session, "stopped", now)
    if (snapshot !== undefined) yield* evict(site, sandbox)
    return snapshot
  }).pipe(
    Effect.catchTag("SandboxUnavailable", (error) => {
      touch(session, "failed", session.updatedAt)
      return Effect.fail(unavailable(error))
    }),
    Effect.uninterruptible
  )

/** The end that comes by itself: with a snapshot where the sandbox is persistent. */
export const endOf = (sandbox: KeptSandbox): End => ({
  as: "stopping",
  method: sandbox.settings.persistent ? "automatic" : null
})

/** Ends a session if it still runs. */
export const expire = (site: Site, session: KeptSession) =>
  session.sandbox.turn.withPermit(
    Effect.suspend(() =>
      session.status === "running" ? Effect.asVoid(end(site, session, endOf(session.sandbox))) : Effect.void
    )
  )

/** Ends the session at its time, which may have been put off by then. */
export const arm = Effect.fnUntraced(function* (site: Site, session: KeptSession) {
  const left = session.createdAt + session.timeout - (yield* Clock.currentTimeMillis)
  const over = Effect.andThen(Effect.sleep(Math.max(0, left)), Effect.ignore(expire(site, session)))
  yield* FiberMap.run(site.timers, session.sandbox, over)
})

/** What is answered of a session that the provider says does not run; it ends here, too. */
export const noticed = (site: Site, session: KeptSession): Effect.Effect<never, Refused> =>
  Effect.andThen(expire(site, session), Effect.fail(refusalOf("stopped")))

const lifetimeOf = ({ timeout }: KeptSession) => Duration.sum(Duration.millis(timeout), margin)

const begin = Effect.fnUntraced(function* (site: Site, session: KeptSession, incarnation: string) {
  const { sandbox } = session
  session.incarnation = incarnation
  touch(session, "running", yield* Clock.currentTimeMillis)
  const source = session.sourceSnapshotId === undefined ? undefined : site.snapshots.get(session.sourceSnapshotId)
  if (source !== undefined) source.lastUsedAt = session.createdAt
  sandbox.session = session
  if (!sandbox.sessions.includes(session)) sandbox.sessions.push(session)
  site.sessions.set(session.id, session)
  yield* arm(site, session)
})

/** Boots a session on a machine of its own, from its snapshot if it has one; in the sandbox's turn. */
export const boot = (site: Site, session: KeptSession) =>
  Effect.gen(function* () {
    const { sandbox } = session
    const snapshot = session.sourceSnapshotId === undefined ? undefined : site.snapshots.get(session.sourceSnapshotId)
    const made = yield* site.provider.create({
      name: sandbox.providerName,
      from: Option.fromUndefinedOr(snapshot?.providerId),
      lifetime: lifetimeOf(session),
      ports: sandbox.settings.ports.map((port) => Port.make(port)),
      registry: site.registry
    })
    sandbox.declared = sandbox.settings.ports
    yield* begin(site, session, made.incarnation)
  }).pipe(
    Effect.catchTags({
      SnapshotGone: () => Effect.fail(snapshotNotFound),
      SandboxUnavailable: (error) => Effect.fail(unavailable(error))
    }),
    Effect.uninterruptible
  )

const wake = Effect.fnUntraced(function* (site: Site, session: KeptSession) {
  const { sandbox } = session
  const woken = yield* site.provider.resume(sandbox.providerName, lifetimeOf(session)).pipe(
    Effect.map(Option.some),
    Effect.catchTag("SandboxGone", () => Effect.succeed(Option.none()))
  )
  if (Option.isNone(woken)) return yield* boot(site, session)
  yield* begin(site, session, woken.value.incarnation)
})

/** Ends a session whose machine has stopped without the emulator; in the sandbox's turn. */
const settle = Effect.fnUntraced(function* (site: Site, session: KeptSession) {
  if (session.status !== "running") return
  const found = yield* Effect.mapError(site.provider.find(session.sandbox.providerName), unavailable)
  const runs = Option.exists(found, (one) => one.status === "running" && one.incarnation === session.incarnation)
  if (!runs) yield* end(site, session, endOf(session.sandbox))
})

/** Begins another session of a sandbox whose last one is over, with the files of its snapshot; tells whether it did. */
export const resume = (site: Site, sandbox: KeptSandbox): Effect.Effect<boolean, Refused> =>
  sandbox.turn.withPermit(
    Effect.gen(function* () {
      yield* settle(site, sandbox.session)
      if (!isOver(sandbox.session)) return false
      const now = yield* Clock.currentTimeMillis
      const current = sandbox.currentSnapshotId
      if (current === undefined && site.withoutSnapshot === "refused") return yield* snapshotNotFound
      if (current !== undefined && !isUsable(site.snapshots.get(current), now)) return yield* snapshotNotFound
      const session = pending(sandbox, current, now)
      const isSame = current !== undefined && current === sandbox.filesOf
      if (isSame && sandbox.declared.join() === sandbox.settings.ports.join()) {
        yield* Effect.catchTag(wake(site, session), "SandboxUnavailable", (error) => Effect.fail(unavailable(error)))
      } else {
        yield* Effect.mapError(site.provider.remove(sandbox.providerName), unavailable)
        yield* boot(site, session)
      }
      return true
    }).pipe(Effect.uninterruptible)
  )
