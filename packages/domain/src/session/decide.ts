/** What a session needs now. The reconciler asks, the tests ask for every state and every sight. */
import { Data, DateTime, Duration } from "effect"
import { stageOf } from "./Lifecycle.ts"
import type { Session } from "./Session.ts"

/** How a session's sandbox was found. */
export type Sight = Data.TaggedEnum<{
  /** The provider could not tell. */
  Unknown: {}
  /** The provider has no such sandbox. */
  Gone: {}
  /** It does not run; it has its files. */
  Stopped: { readonly reason: string | null }
  Running: { readonly incarnation: string; readonly expiresAt: DateTime.Utc }
}>
export const Sight = Data.taggedEnum<Sight>()

/** What is to be done. */
export type Need = Data.TaggedEnum<{
  /** Nothing, until somebody opens it. */
  Nothing: {}
  /** Nothing before then. */
  Wait: { readonly until: DateTime.Utc }
  /** To be put to sleep. */
  Hibernate: { readonly reason: string }
  /** To be stopped, as somebody began to. */
  Stop: {}
  /** It is asleep already: only that is to be written. */
  Sleep: { readonly reason: string }
  /** It is gone: only that is to be written. */
  Lose: {}
  /** To be left awake, for a run that is live. */
  Stay: { readonly expiresAt: DateTime.Utc }
  /** More time, for a run that is live. */
  Extend: {}
  /** To be brought up, as somebody began to. */
  BringUp: {}
  /** It was begun too often: it has failed. */
  GiveUp: {}
  /** It rests, and runs all the same: that run is to be stopped. */
  Halt: { readonly incarnation: string }
  /** It rests, and nothing runs: only that is to be written. */
  Settle: {}
  /** Not meant to stay: to be put away first, so that nobody brings it up any more. */
  PutAway: {}
  /** Not meant to stay, and put away: to be removed with everything it has. */
  Remove: {}
}>
export const Need = Data.taggedEnum<Need>()

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
export const usualTimes: SessionTimes = {
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
export const lookAtFor = (
  times: SessionTimes,
  idleAt: DateTime.Utc,
  expiresAt: DateTime.Utc,
  now: DateTime.Utc
): DateTime.Utc =>
  DateTime.min(
    DateTime.min(idleAt, DateTime.subtractDuration(expiresAt, times.margin)),
    DateTime.addDuration(now, times.checkEvery)
  )

export interface Seen {
  readonly session: Session
  readonly sight: Sight
  /** Whether a run is live in its sandbox. */
  readonly live: boolean
  readonly now: DateTime.Utc
}

export const decide = (seen: Seen, times: SessionTimes): Need => {
  const { session } = seen
  const stage = stageOf(session)
  switch (stage) {
    case "none":
      return session.ephemeral ? Need.PutAway() : Need.Nothing()
    case "hibernated":
    case "failed":
      return session.ephemeral ? Need.PutAway() : whileAtRest(seen, times)
    case "archived":
      return session.ephemeral ? Need.Remove() : whileAtRest(seen, times)
    case "provisioning":
    case "restoring":
      return session.lifecycle.attempt >= attempts ? Need.GiveUp() : Need.BringUp()
    case "hibernating":
      return whileHibernating(seen, times)
    case "active":
      return whileActive(seen, times)
  }
}

const whileAtRest = ({ now, session, sight }: Seen, times: SessionTimes): Need => {
  if (session.lifecycle.lookAt === null) return Need.Nothing()
  switch (sight._tag) {
    case "Unknown":
      return Need.Wait({ until: DateTime.addDuration(now, times.lease) })
    case "Gone":
    case "Stopped":
      return Need.Settle()
    case "Running":
      return Need.Halt({ incarnation: sight.incarnation })
  }
}

const whileHibernating = ({ now, sight }: Seen, times: SessionTimes): Need => {
  switch (sight._tag) {
    case "Unknown":
      return Need.Wait({ until: DateTime.addDuration(now, times.lease) })
    case "Gone":
      return Need.Lose()
    case "Stopped":
      return Need.Sleep({ reason: sight.reason ?? stoppedByItself })
    case "Running":
      return Need.Stop()
  }
}

/** How long before the end a live run gets more time: a server may be away for so long without anything being lost. */
const reserveOf = ({ checkEvery }: SessionTimes): Duration.Duration => Duration.times(checkEvery, 3)

const whileActive = ({ live, now, session, sight }: Seen, times: SessionTimes): Need => {
  switch (sight._tag) {
    case "Unknown":
      return Need.Wait({ until: DateTime.addDuration(now, times.lease) })
    case "Gone":
      return Need.Lose()
    case "Stopped":
      return Need.Sleep({ reason: sight.reason ?? stoppedByItself })
    case "Running": {
      const idleAt = session.lifecycle.hibernateAfter ?? now
      const isIdle = DateTime.isLessThanOrEqualTo(idleAt, now)
      const endsAt = DateTime.subtractDuration(sight.expiresAt, times.margin)
      const isEnding = DateTime.isLessThanOrEqualTo(endsAt, now)
      if (live && DateTime.isLessThanOrEqualTo(endsAt, DateTime.addDuration(now, reserveOf(times))))
        return Need.Extend()
      if (!isIdle && !isEnding) return Need.Wait({ until: lookAtFor(times, idleAt, sight.expiresAt, now) })
      if (live) return Need.Stay({ expiresAt: sight.expiresAt })
      return Need.Hibernate({ reason: isIdle ? "Nobody used it for a while" : "Its time was nearly up" })
    }
  }
}

const stoppedByItself = "Its provider stopped it"
