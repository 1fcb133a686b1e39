import { Context, Data, DateTime, Duration, Effect, FiberMap, Layer, Option, Semaphore } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import type { ChangeReason } from "../ChangeReason.ts"
import { retrySchedule } from "../lifecycle/RetryPolicy.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import { annotateIds, record, metrics } from "../Metrics.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { TaskRunStore } from "../task/TaskRunStore.ts"
import { isHolding } from "../task/TaskRun.ts"
import { decide, type Decision, ObservedState } from "./decide.ts"
import { lostReason, SessionTransition, stateOf } from "./SessionLifecycle.ts"
import type { Session, SessionId } from "./Session.ts"
import { SessionSandboxes, type Superseded } from "./SessionSandboxes.ts"
import { SessionStore } from "./SessionStore.ts"

/** Sessions that one pass claims, with one request to the provider for all of them. */
const batch = 100

/** Sessions that are reconciled concurrently. */
const atOnce = 20

/** How long to wait after a pass that found nothing due. */
const pause = Duration.seconds(1)

/** The delays after passes that failed in a row. */
const passRetry = { initial: Duration.seconds(1), longest: Duration.seconds(5) }

class PassFailed extends Data.TaggedError("PassFailed")<{}> {}

/**
 * Reconciles due sessions: idle ones, those whose sandbox is near its end or gone, and those whose worker was
 * interrupted during provisioning, restoring or hibernation. Several servers share the work: each due session is
 * claimed by one of them at a time.
 */
export class Reconciler extends Context.Service<
  Reconciler,
  {
    /** Reconciles a batch of due sessions and returns their number. Provisioning continues in the background. */
    readonly pass: Effect.Effect<number>
    /** Repeats passes until it is interrupted. */
    readonly run: Effect.Effect<never>
  }
>()("domain/session/Reconciler") {
  static readonly layer = Layer.suspend(() => Layer.effect(Reconciler, make))
}

const make = Effect.gen(function* () {
  const store = yield* SessionStore
  const provider = yield* SandboxProvider
  const runs = yield* TaskRunStore
  const held = yield* SessionSandboxes
  const { times } = held
  const onePass = yield* Semaphore.make(1)
  const bringingUp = yield* FiberMap.make<SessionId>()
  const places = yield* Semaphore.make(atOnce)

  const look = Effect.fnUntraced(function* (sessions: ReadonlyArray<Session>) {
    const names = sessions.flatMap(({ lifecycle }) => (lifecycle.sandbox === null ? [] : [lifecycle.sandbox]))
    const found = yield* names.length === 0 ? Effect.succeed(Option.some([])) : Effect.option(provider.findMany(names))
    if (Option.isNone(found)) return () => ObservedState.Unknown()
    const byName = new Map<string, Sandbox>(found.value.map((sandbox) => [sandbox.name, sandbox]))
    return (session: Session) => sightOf(byName.get(session.lifecycle.sandbox ?? ""))
  })

  const isLive = Effect.fnUntraced(function* (session: Session) {
    const { sandbox, state } = session.lifecycle
    if (state !== "active" || sandbox === null) return false
    const now = yield* DateTime.now
    const live = yield* runs.liveIn(AccountScope.ofOwner(session), sandbox)
    return live.some((run) => isHolding(run, now))
  })

  const hibernate = Effect.fnUntraced(function* (session: Session, reason: ChangeReason) {
    const begun = yield* held.apply(
      session,
      SessionTransition.Hibernate({ leaseExpiresAt: yield* held.newLeaseExpiry, reason })
    )
    if (Option.isSome(begun)) yield* held.hibernate(begun.value, reason)
  })

  const extend = Effect.fnUntraced(function* (session: Session) {
    const name = session.lifecycle.sandbox!
    const longer = yield* provider
      .extend(name, times.extension)
      .pipe(
        Effect.catchTags({ SandboxGone: () => Effect.succeed(null), SandboxNotRunning: () => Effect.succeed(null) })
      )
    if (longer !== null) yield* held.recordActivity(session, longer.expiresAt, false)
  })

  const takeOver = Effect.fnUntraced(function* (session: Session) {
    const mine = yield* held.apply(
      session,
      SessionTransition.TakeOverLease({ leaseExpiresAt: yield* held.newLeaseExpiry })
    )
    if (Option.isSome(mine)) yield* held.provision(mine.value)
  })

  /**
   * Provisions a session in the background, so that a large repository does not delay other sessions. A session that
   * finds no free place is due again when its lease expires.
   */
  const forkProvisioning = (session: Session) =>
    FiberMap.run(
      bringingUp,
      session.id,
      logFailure(session, places.withPermitsIfAvailable(1)(Effect.ignore(takeOver(session)))),
      {
        onlyIfMissing: true
      }
    )

  const stopOrphan = Effect.fnUntraced(function* (session: Session, incarnation: string) {
    yield* provider.stop(session.lifecycle.sandbox!, { incarnation })
    yield* held.apply(session, SessionTransition.Settled())
  })

  const remove = Effect.fnUntraced(function* (session: Session) {
    const name = session.lifecycle.sandbox
    if (name !== null) yield* provider.remove(name)
    yield* store.remove(AccountScope.ofOwner(session), session, yield* DateTime.now)
  })

  const execute = (session: Session, need: Decision): Effect.Effect<unknown, SandboxUnavailable | Superseded> => {
    switch (need._tag) {
      case "Nothing":
        return Effect.void
      case "Wait":
        return store.setNextCheck(AccountScope.ofOwner(session), session.id, session.lifecycle.version, need.until)
      case "Hibernate":
        return hibernate(session, need.reason)
      case "Stop":
        return held.hibernate(session, { code: "stopped", sentence: null })
      case "Hibernated":
        return held.apply(session, SessionTransition.Hibernated({ reason: need.reason }))
      case "MarkLost":
        return held.apply(session, SessionTransition.MarkLost({ reason: lostReason }))
      case "KeepAwake":
        return held.recordActivity(session, need.expiresAt, false)
      case "Extend":
        return extend(session)
      case "Provision":
        return forkProvisioning(session)
      case "GiveUp":
        return held.apply(
          session,
          SessionTransition.Fail({
            error: "It could not be brought up, however often it was tried",
            code: "attempts_exhausted"
          })
        )
      case "StopOrphan":
        return stopOrphan(session, need.incarnation)
      case "Settled":
        return held.apply(session, SessionTransition.Settled())
      case "Archive":
        return Effect.flatMap(held.newLeaseExpiry, (until) =>
          held.apply(
            session,
            SessionTransition.Archive({
              leaseExpiresAt: until,
              reason: { code: "ephemeral_ended", sentence: null }
            })
          )
        )
      case "Remove":
        return remove(session)
    }
  }

  const reconcileOne = Effect.fnUntraced(
    function* (session: Session, sight: ObservedState) {
      const now = yield* DateTime.now
      const whileLive = decide({ session, observed: sight, live: true, now }, times)
      const otherwise = decide({ session, observed: sight, live: false, now }, times)
      // Live runs are read only where they change the decision.
      const matters = whileLive._tag !== otherwise._tag
      yield* execute(session, matters && (yield* isLive(session)) ? whileLive : otherwise)
    },
    (effect, session) => logFailure(session, effect)
  )

  let caughtUp = yield* DateTime.now
  const recordLag = Effect.flatMap(DateTime.now, (now) =>
    record(metrics.lag, (now.epochMilliseconds - caughtUp.epochMilliseconds) / 1000, {})
  )

  const reconcileAll = Effect.fnUntraced(function* (due: ReadonlyArray<Session>) {
    const sightOf = yield* look(due)
    yield* Effect.forEach(due, (session) => reconcileOne(session, sightOf(session)), {
      concurrency: atOnce,
      discard: true
    })
    yield* recordLag
  })

  const pass = Effect.gen(function* () {
    const now = yield* DateTime.now
    const due = yield* store.claimDue(now, DateTime.addDuration(now, times.lease), batch)
    if (due.length < batch) caughtUp = now
    yield* recordLag
    // A pass that finds nothing, every second, is not worth a trace.
    if (due.length > 0) yield* Effect.withSpan(reconcileAll(due), "Reconciler.pass")
    return due.length
  }).pipe(onePass.withPermits(1))

  const run = pass.pipe(
    // An unavailable database is a defect, which must not end the reconciler.
    Effect.catchCause((cause) =>
      Effect.andThen(Effect.logWarning("Failed to reconcile sessions", cause), Effect.fail(new PassFailed()))
    ),
    Effect.retry(retrySchedule(passRetry)),
    Effect.orDie,
    Effect.flatMap((claimed) => (claimed === 0 ? Effect.sleep(pause) : Effect.void)),
    Effect.forever
  )

  return Reconciler.of({ pass, run })
})

/** Logs a failure and goes on: the session is due again when its lease expires. */
const logFailure = <A, E, R>(session: Session, effect: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  effect.pipe(
    Effect.asVoid,
    Effect.catchCause((cause) => Effect.logWarning("Failed to reconcile session", { session: session.id }, cause)),
    Effect.annotateLogs({ state: stateOf(session) }),
    annotateIds({ account: session.account, session: session.id })
  )

const sightOf = (sandbox: Sandbox | undefined): ObservedState => {
  if (sandbox === undefined) return ObservedState.Gone()
  return sandbox.status === "running"
    ? ObservedState.Running({ incarnation: sandbox.incarnation, expiresAt: sandbox.expiresAt })
    : ObservedState.Stopped({ reason: sandbox.reason })
}
