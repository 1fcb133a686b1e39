/** What the reconciler does with a session: a pure decision from its row, its sandbox and the time. */
import { Data, DateTime, Duration } from "effect"
import type { ChangeReason } from "../ChangeReason.ts"
import { stateOf } from "./SessionLifecycle.ts"
import type { Session } from "./Session.ts"

/** The state of a session's sandbox, as observed at the provider. */
export type ObservedState = Data.TaggedEnum<{
  /** The provider did not answer. */
  Unknown: {}
  /** The provider has no sandbox with this name. */
  Gone: {}
  /** The sandbox is stopped and has its files. */
  Stopped: { readonly reason: string | null }
  Running: { readonly incarnation: string; readonly expiresAt: DateTime.Utc }
}>
export const ObservedState = Data.taggedEnum<ObservedState>()

/** What the reconciler does. */
export type Decision = Data.TaggedEnum<{
  /** Do nothing until a client opens the session. */
  Nothing: {}
  /** Check again at this time. */
  Wait: { readonly until: DateTime.Utc }
  /** Start to hibernate the session. */
  Hibernate: { readonly reason: ChangeReason }
  /** Finish a hibernation: stop the sandbox. */
  Stop: {}
  /** Record that the sandbox is stopped. */
  Hibernated: { readonly reason: ChangeReason }
  /** Record that the provider no longer has the sandbox. */
  MarkLost: {}
  /** Keep the session active for a live run. */
  KeepAwake: { readonly expiresAt: DateTime.Utc }
  /** Extend the sandbox for a live run. */
  Extend: {}
  /** Continue to provision or restore the sandbox. */
  Provision: {}
  /** Fail the session after too many attempts. */
  GiveUp: {}
  /** Stop this incarnation. It is an orphan: it runs although its session does not. */
  StopOrphan: { readonly incarnation: string }
  /** Record that the sandbox does not run. */
  Settled: {}
  /** Archive an ephemeral session, so that no client can open it any more. */
  Archive: {}
  /** Remove an archived ephemeral session with its sandbox. */
  Remove: {}
}>
export const Decision = Data.taggedEnum<Decision>()

/** The times of a session's lifecycle. */
export interface SessionTimes {
  /** How long a sandbox that was provisioned or restored runs before its provider stops it. */
  readonly lifetime: Duration.Duration
  /** How long after its last use the session is hibernated. */
  readonly idle: Duration.Duration
  /** How long before the provider would stop the sandbox the session is hibernated. */
  readonly margin: Duration.Duration
  /** How long a worker's lease lasts without a renewal. */
  readonly lease: Duration.Duration
  /** How often the reconciler checks an active session. */
  readonly checkEvery: Duration.Duration
  /** The extension of a sandbox when a client requests one or a live run needs it. */
  readonly extension: Duration.Duration
}

/**
 * The published pages require five minutes of idleness and ten seconds before the end; the other times are our choice.
 */
export const defaultTimes: SessionTimes = {
  lifetime: Duration.minutes(30),
  idle: Duration.minutes(5),
  margin: Duration.seconds(10),
  lease: Duration.minutes(1),
  checkEvery: Duration.minutes(1),
  extension: Duration.minutes(20)
}

/** Attempts in a row to provision or restore a session before it fails. */
export const attempts = 5

/** When an active session is checked next: when it is idle, when its sandbox nearly ends, or after `checkEvery`. */
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
      return Decision.Hibernated({ reason: { code: "stopped", sentence: sight.reason ?? stoppedByItself } })
    case "Running":
      return Decision.Stop()
  }
}

/**
 * How long before its end a sandbox with a live run is extended: the server may be down for this long without losing
 * the run.
 */
const reserveOf = ({ checkEvery }: SessionTimes): Duration.Duration => Duration.times(checkEvery, 3)

const whileActive = ({ live, now, session, observed: sight }: DecisionInput, times: SessionTimes): Decision => {
  switch (sight._tag) {
    case "Unknown":
      return Decision.Wait({ until: DateTime.addDuration(now, times.lease) })
    case "Gone":
      return Decision.MarkLost()
    case "Stopped":
      return Decision.Hibernated({ reason: { code: "stopped", sentence: sight.reason ?? stoppedByItself } })
    case "Running": {
      const idleAt = session.lifecycle.hibernateAfter ?? now
      const isIdle = DateTime.isLessThanOrEqualTo(idleAt, now)
      const endsAt = DateTime.subtractDuration(sight.expiresAt, times.margin)
      const isEnding = DateTime.isLessThanOrEqualTo(endsAt, now)
      if (live && DateTime.isLessThanOrEqualTo(endsAt, DateTime.addDuration(now, reserveOf(times))))
        return Decision.Extend()
      if (!isIdle && !isEnding) return Decision.Wait({ until: nextCheckFor(times, idleAt, sight.expiresAt, now) })
      if (live) return Decision.KeepAwake({ expiresAt: sight.expiresAt })
      return Decision.Hibernate({ reason: isIdle ? idle : ending })
    }
  }
}

const stoppedByItself = "Its provider stopped it"

const idle: ChangeReason = { code: "idle_timeout", sentence: "Nobody used it for a while" }

const ending: ChangeReason = { code: "lifetime_over", sentence: "Its time was nearly up" }
