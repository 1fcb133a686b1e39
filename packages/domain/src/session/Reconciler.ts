import { Context, Data, DateTime, Duration, Effect, FiberMap, Layer, Option, Semaphore } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
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

/** Sessions that one pass takes at once, with one question to the provider for all of them. */
const batch = 100

/** Sessions that are worked on side by side. */
const atOnce = 20

/** How long to wait when there is nothing to do. */
const pause = Duration.seconds(1)

/** The delays after passes that failed in a row. */
const passRetry = { initial: Duration.seconds(1), longest: Duration.seconds(5) }

class PassFailed extends Data.TaggedError("PassFailed")<{}> {}

/**
 * Finds the sessions that need something and sees to it: those that are idle, whose time is up, whose sandbox has gone,
 * and those that somebody began to bring up or to put to sleep and never finished. It takes no input; several servers
 * share the work, since each session that is due is given to one of them at a time.
 */
export class Reconciler extends Context.Service<
  Reconciler,
  {
    /**
     * Sees to a batch of the sessions that are due, and gives their number; 0 when nothing is. Those that are to be brought
     * up are begun, and not waited for.
     */
    readonly pass: Effect.Effect<number>
    /** Passes, for as long as it is let. */
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

  const hibernate = Effect.fnUntraced(function* (session: Session, reason: string) {
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

  const goOn = Effect.fnUntraced(function* (session: Session) {
    const mine = yield* held.apply(
      session,
      SessionTransition.TakeOverLease({ leaseExpiresAt: yield* held.newLeaseExpiry })
    )
    if (Option.isSome(mine)) yield* held.provision(mine.value)
  })

  /**
   * Brings a session up beside all else: a large repository takes its time, and no other session is to wait for that. One
   * that finds no place is due again when its claim is over.
   */
  const beside = (session: Session) =>
    FiberMap.run(
      bringingUp,
      session.id,
      noted(session, places.withPermitsIfAvailable(1)(Effect.ignore(goOn(session)))),
      {
        onlyIfMissing: true
      }
    )

  const halt = Effect.fnUntraced(function* (session: Session, incarnation: string) {
    yield* provider.stop(session.lifecycle.sandbox!, { incarnation })
    yield* held.apply(session, SessionTransition.Settled())
  })

  const remove = Effect.fnUntraced(function* (session: Session) {
    const name = session.lifecycle.sandbox
    if (name !== null) yield* provider.remove(name)
    yield* store.remove(AccountScope.ofOwner(session), session, yield* DateTime.now)
  })

  const meet = (session: Session, need: Decision): Effect.Effect<unknown, SandboxUnavailable | Superseded> => {
    switch (need._tag) {
      case "Nothing":
        return Effect.void
      case "Wait":
        return store.setNextCheck(AccountScope.ofOwner(session), session.id, session.lifecycle.version, need.until)
      case "Hibernate":
        return hibernate(session, need.reason)
      case "Stop":
        return held.hibernate(session, null)
      case "Hibernated":
        return held.apply(session, SessionTransition.Hibernated({ reason: need.reason }))
      case "MarkLost":
        return held.apply(session, SessionTransition.MarkLost({ reason: lostReason }))
      case "KeepAwake":
        return held.recordActivity(session, need.expiresAt, false)
      case "Extend":
        return extend(session)
      case "Provision":
        return beside(session)
      case "GiveUp":
        return held.apply(
          session,
          SessionTransition.Fail({
            error: "It could not be brought up, however often it was tried",
            code: "attempts_exhausted"
          })
        )
      case "StopOrphan":
        return halt(session, need.incarnation)
      case "Settled":
        return held.apply(session, SessionTransition.Settled())
      case "Archive":
        return Effect.flatMap(held.newLeaseExpiry, (until) =>
          held.apply(session, SessionTransition.Archive({ leaseExpiresAt: until }))
        )
      case "Remove":
        return remove(session)
    }
  }

  const seeTo = Effect.fnUntraced(
    function* (session: Session, sight: ObservedState) {
      const now = yield* DateTime.now
      const whileLive = decide({ session, observed: sight, live: true, now }, times)
      const otherwise = decide({ session, observed: sight, live: false, now }, times)
      // Runs are asked for only where the answer matters.
      const matters = whileLive._tag !== otherwise._tag
      yield* meet(session, matters && (yield* isLive(session)) ? whileLive : otherwise)
    },
    (effect, session) => noted(session, effect)
  )

  let caughtUp = yield* DateTime.now
  const tellLag = Effect.flatMap(DateTime.now, (now) =>
    record(metrics.lag, (now.epochMilliseconds - caughtUp.epochMilliseconds) / 1000, {})
  )

  const seeToAll = Effect.fnUntraced(function* (due: ReadonlyArray<Session>) {
    const sightOf = yield* look(due)
    yield* Effect.forEach(due, (session) => seeTo(session, sightOf(session)), { concurrency: atOnce, discard: true })
    yield* tellLag
  })

  const pass = Effect.gen(function* () {
    const now = yield* DateTime.now
    const due = yield* store.claimDue(now, DateTime.addDuration(now, times.lease), batch)
    if (due.length < batch) caughtUp = now
    yield* tellLag
    // A look that finds nothing, every second, is not worth a trace.
    if (due.length > 0) yield* Effect.withSpan(seeToAll(due), "Reconciler.pass")
    return due.length
  }).pipe(onePass.withPermits(1))

  const run = pass.pipe(
    // A database that is away is a defect; the reconciler outlives it.
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

/** What goes wrong with a session is told, and no more: it is due again once the claim is over. */
const noted = <A, E, R>(session: Session, effect: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  effect.pipe(
    Effect.asVoid,
    Effect.catchCause((cause) => Effect.logWarning("a session could not be seen to", { session: session.id }, cause)),
    Effect.annotateLogs({ stage: stateOf(session) }),
    annotateIds({ account: session.account, session: session.id })
  )

const sightOf = (sandbox: Sandbox | undefined): ObservedState => {
  if (sandbox === undefined) return ObservedState.Gone()
  return sandbox.status === "running"
    ? ObservedState.Running({ incarnation: sandbox.incarnation, expiresAt: sandbox.expiresAt })
    : ObservedState.Stopped({ reason: sandbox.reason })
}
