/** What a session needs now. The reconciler asks, the tests ask for every state and every sight. */
import { Data, DateTime, Duration } from "effect"
import { stateOf } from "./SessionLifecycle.ts"
import type { Session } from "./Session.ts"

/** How a session's sandbox was found. */
export type ObservedState = Data.TaggedEnum<{
  /** The provider could not tell. */
  Unknown: {}
  /** The provider has no such sandbox. */
  Gone: {}
  /** It does not run; it has its files. */
  Stopped: { readonly reason: string | null }
  Running: { readonly incarnation: string; readonly expiresAt: DateTime.Utc }
}>
export const ObservedState = Data.taggedEnum<ObservedState>()

/** What is to be done. */
export type Decision = Data.TaggedEnum<{
  /** Nothing, until somebody opens it. */
  Nothing: {}
  /** Nothing before then. */
  Wait: { readonly until: DateTime.Utc }
  /** To be put to sleep. */
  Hibernate: { readonly reason: string }
  /** To be stopped, as somebody began to. */
  Stop: {}
  /** It is asleep already: only that is to be written. */
  Hibernated: { readonly reason: string }
  /** It is gone: only that is to be written. */
  MarkLost: {}
  /** To be left awake, for a run that is live. */
  KeepAwake: { readonly expiresAt: DateTime.Utc }
  /** More time, for a run that is live. */
  Extend: {}
  /** To be brought up, as somebody began to. */
  Provision: {}
  /** It was begun too often: it has failed. */
  GiveUp: {}
  /** It rests, and runs all the same: that run is to be stopped. */
  StopOrphan: { readonly incarnation: string }
  /** It rests, and nothing runs: only that is to be written. */
  Settled: {}
  /** Not meant to stay: to be put away first, so that nobody brings it up any more. */
  Archive: {}
  /** Not meant to stay, and put away: to be removed with everything it has. */
  Remove: {}
}>
export const Decision = Data.taggedEnum<Decision>()

/** The times a session lives by. */
export interface SessionTimes {
  /** How long its sandbox runs before its provider stops it, when it is brought up. */
  readonly lifetime: Duration.Duration
  /** How long after its last use it is put to sleep. */
  readonly idle: Duration.Duration
  /** How long before its provider would stop it, it is put to sleep. */
  readonly margin: Duration.Duration
  /** How long whoever works on it may be silent before another goes on. */
  readonly lease: Duration.Duration
  /** How often an active session's sandbox is looked for. */
  readonly checkEvery: Duration.Duration
  /** How much longer its sandbox runs when somebody asks for more time, or a live run needs it. */
  readonly extension: Duration.Duration
}

/** Five minutes of idleness, and ten seconds before the end; what the published pages say. The rest is ours. */
export const defaultTimes: SessionTimes = {
  lifetime: Duration.minutes(30),
  idle: Duration.minutes(5),
  margin: Duration.seconds(10),
  lease: Duration.minutes(1),
  checkEvery: Duration.minutes(1),
  extension: Duration.minutes(20)
}

/** How often bringing a session up is begun before it counts as failed. */
export const attempts = 5

/** When an active session is to be looked at: when it is idle, nearly over, or due for a look. */
export const nextCheckFor = (
  times: SessionTimes,
  idleAt: DateTime.Utc,
  expiresAt: DateTime.Utc,
  now: DateTime.Utc
): DateTime.Utc =>
  DateTime.min(
    DateTime.min(idleAt, DateTime.subtractDuration(expiresAt, times.margin)),
    DateTime.addDuration(now, times.checkEvery)
  )

export interface DecisionInput {
  readonly session: Session
  readonly observed: ObservedState
  /** Whether a run is live in its sandbox. */
  readonly live: boolean
  readonly now: DateTime.Utc
}

export const decide = (seen: DecisionInput, times: SessionTimes): Decision => {
  const { session } = seen
  const stage = stateOf(session)
  switch (stage) {
    case "none":
      return session.ephemeral ? Decision.Archive() : Decision.Nothing()
    case "hibernated":
    case "failed":
      return session.ephemeral ? Decision.Archive() : whileAtRest(seen, times)
    case "archived":
      return session.ephemeral ? Decision.Remove() : whileAtRest(seen, times)
    case "provisioning":
    case "restoring":
      return session.lifecycle.attempt >= attempts ? Decision.GiveUp() : Decision.Provision()
    case "hibernating":
      return whileHibernating(seen, times)
    case "active":
      return whileActive(seen, times)
  }
}

const whileAtRest = ({ now, session, observed: sight }: DecisionInput, times: SessionTimes): Decision => {
  if (session.lifecycle.nextCheckAt === null) return Decision.Nothing()
  switch (sight._tag) {
    case "Unknown":
      return Decision.Wait({ until: DateTime.addDuration(now, times.lease) })
    case "Gone":
    case "Stopped":
      return Decision.Settled()
    case "Running":
      return Decision.StopOrphan({ incarnation: sight.incarnation })
  }
}

const whileHibernating = ({ now, observed: sight }: DecisionInput, times: SessionTimes): Decision => {
  switch (sight._tag) {
    case "Unknown":
      return Decision.Wait({ until: DateTime.addDuration(now, times.lease) })
    case "Gone":
      return Decision.MarkLost()
    case "Stopped":
      return Decision.Hibernated({ reason: sight.reason ?? stoppedByItself })
    case "Running":
      return Decision.Stop()
  }
}

/** How long before the end a live run gets more time: a server may be away for so long without anything being lost. */
const reserveOf = ({ checkEvery }: SessionTimes): Duration.Duration => Duration.times(checkEvery, 3)

const whileActive = ({ live, now, session, observed: sight }: DecisionInput, times: SessionTimes): Decision => {
  switch (sight._tag) {
    case "Unknown":
      return Decision.Wait({ until: DateTime.addDuration(now, times.lease) })
    case "Gone":
      return Decision.MarkLost()
    case "Stopped":
      return Decision.Hibernated({ reason: sight.reason ?? stoppedByItself })
    case "Running": {
      const idleAt = session.lifecycle.hibernateAfter ?? now
      const isIdle = DateTime.isLessThanOrEqualTo(idleAt, now)
      const endsAt = DateTime.subtractDuration(sight.expiresAt, times.margin)
      const isEnding = DateTime.isLessThanOrEqualTo(endsAt, now)
      if (live && DateTime.isLessThanOrEqualTo(endsAt, DateTime.addDuration(now, reserveOf(times))))
        return Decision.Extend()
      if (!isIdle && !isEnding) return Decision.Wait({ until: nextCheckFor(times, idleAt, sight.expiresAt, now) })
      if (live) return Decision.KeepAwake({ expiresAt: sight.expiresAt })
      return Decision.Hibernate({ reason: isIdle ? "Nobody used it for a while" : "Its time was nearly up" })
    }
  }
}

const stoppedByItself = "Its provider stopped it"
