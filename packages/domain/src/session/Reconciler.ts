import { Context, DateTime, Duration, Effect, FiberMap, Layer, Option, Semaphore } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import { annotateIds, record, metrics } from "../Metrics.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { TaskRunStore } from "../task/TaskRunStore.ts"
import { isHolding } from "../task/TaskRun.ts"
import { decide, type Need, Sight } from "./decide.ts"
import { lostReason, Move, stageOf } from "./Lifecycle.ts"
import type { Session, SessionId } from "./Session.ts"
import { SessionSandboxes, type Superseded } from "./SessionSandboxes.ts"
import { SessionStore } from "./SessionStore.ts"

/** Sessions that one pass takes at once, with one question to the provider for all of them. */
const batch = 100

/** Sessions that are worked on side by side. */
const atOnce = 20

/** How long to wait when there is nothing to do. */
const pause = Duration.seconds(1)

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
    if (Option.isNone(found)) return () => Sight.Unknown()
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
    const begun = yield* held.move(session, Move.Hibernate({ until: yield* held.until, reason }))
    if (Option.isSome(begun)) yield* held.putToSleep(begun.value, reason)
  })

  const extend = Effect.fnUntraced(function* (session: Session) {
    const name = session.lifecycle.sandbox!
    const longer = yield* provider
      .extend(name, times.extension)
      .pipe(
        Effect.catchTags({ SandboxGone: () => Effect.succeed(null), SandboxNotRunning: () => Effect.succeed(null) })
      )
    if (longer !== null) yield* held.use(session, longer.expiresAt, false)
  })

  const goOn = Effect.fnUntraced(function* (session: Session) {
    const mine = yield* held.move(session, Move.TakeOver({ until: yield* held.until }))
    if (Option.isSome(mine)) yield* held.bringUp(mine.value)
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
    yield* held.move(session, Move.Settle())
  })

  const remove = Effect.fnUntraced(function* (session: Session) {
    const name = session.lifecycle.sandbox
    if (name !== null) yield* provider.remove(name)
    yield* store.remove(AccountScope.ofOwner(session), session, yield* DateTime.now)
  })

  const meet = (session: Session, need: Need): Effect.Effect<unknown, SandboxUnavailable | Superseded> => {
    switch (need._tag) {
      case "Nothing":
        return Effect.void
      case "Wait":
        return store.postpone(AccountScope.ofOwner(session), session.id, session.lifecycle.version, need.until)
      case "Hibernate":
        return hibernate(session, need.reason)
      case "Stop":
        return held.putToSleep(session, null)
      case "Sleep":
        return held.move(session, Move.Sleep({ reason: need.reason }))
      case "Lose":
        return held.move(session, Move.Lose({ reason: lostReason }))
      case "Stay":
        return held.use(session, need.expiresAt, false)
      case "Extend":
        return extend(session)
      case "BringUp":
        return beside(session)
      case "GiveUp":
        return held.move(
          session,
          Move.Fail({
            error: "It could not be brought up, however often it was tried",
            code: "attempts_exhausted"
          })
        )
      case "Halt":
        return halt(session, need.incarnation)
      case "Settle":
        return held.move(session, Move.Settle())
      case "PutAway":
        return Effect.flatMap(held.until, (until) => held.move(session, Move.Archive({ until })))
      case "Remove":
        return remove(session)
    }
  }

  const seeTo = Effect.fnUntraced(
    function* (session: Session, sight: Sight) {
      const now = yield* DateTime.now
      const whileLive = decide({ session, sight, live: true, now }, times)
      const otherwise = decide({ session, sight, live: false, now }, times)
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
    Effect.catchCause((cause) => Effect.as(Effect.logWarning("a pass over the sessions broke off", cause), 0)),
    Effect.flatMap((seen) => (seen === 0 ? Effect.sleep(pause) : Effect.void)),
    Effect.forever
  )

  return Reconciler.of({ pass, run })
})

/** What goes wrong with a session is told, and no more: it is due again once the claim is over. */
const noted = <A, E, R>(session: Session, effect: Effect.Effect<A, E, R>): Effect.Effect<void, never, R> =>
  effect.pipe(
    Effect.asVoid,
    Effect.catchCause((cause) => Effect.logWarning("a session could not be seen to", { session: session.id }, cause)),
    Effect.annotateLogs({ stage: stageOf(session) }),
    annotateIds({ account: session.account, session: session.id })
  )

const sightOf = (sandbox: Sandbox | undefined): Sight => {
  if (sandbox === undefined) return Sight.Gone()
  return sandbox.status === "running"
    ? Sight.Running({ incarnation: sandbox.incarnation, expiresAt: sandbox.expiresAt })
    : Sight.Stopped({ reason: sandbox.reason })
}
