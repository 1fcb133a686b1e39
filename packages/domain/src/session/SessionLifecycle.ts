/** The lifecycle of a session's sandbox: its transitions, where each may begin, and what each changes and emits. */
import { Data, DateTime, Duration, type Option } from "effect"
import { type ChangeReason, userRequested } from "../ChangeReason.ts"
import type { FailureCode } from "../FailureReason.ts"
import { AppliedTransition, type StateMachine, type TransitionTable } from "../lifecycle/StateMachine.ts"
import { SandboxEvent, type SandboxEventType } from "../sandbox/SandboxEvent.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { BranchName } from "../repo/Repo.ts"
import { Lifecycle, type LifecycleState, Session } from "./Session.ts"

/** The transitions of a session's lifecycle. */
export type SessionTransition = Data.TaggedEnum<{
  /** Start to create the first sandbox, or the next one after a creation that failed. */
  Provision: { readonly sandbox: SandboxName; readonly leaseExpiresAt: DateTime.Utc }
  /** Start to resume the sandbox. `lost` if its provider no longer has it. */
  Restore: { readonly leaseExpiresAt: DateTime.Utc; readonly lost: boolean }
  /** Continue work whose lease has expired. */
  TakeOverLease: { readonly leaseExpiresAt: DateTime.Utc }
  /** The sandbox runs with the repository on this branch. */
  Activate: {
    readonly incarnation: string
    readonly expiresAt: DateTime.Utc
    readonly idleAt: DateTime.Utc
    readonly nextCheckAt: DateTime.Utc
    readonly workspace: boolean
    readonly branch: BranchName | null
  }
  /** The session was used, or its sandbox was extended. */
  RecordActivity: {
    readonly expiresAt: DateTime.Utc
    readonly idleAt: DateTime.Utc
    readonly nextCheckAt: DateTime.Utc
    readonly byOwner: boolean
  }
  /** Start to stop the sandbox. */
  Hibernate: { readonly leaseExpiresAt: DateTime.Utc; readonly reason: ChangeReason }
  /** The sandbox is stopped and keeps its files. */
  Hibernated: { readonly reason: ChangeReason }
  /** The provider no longer has the sandbox. */
  MarkLost: { readonly reason: string }
  /** The sandbox could not be provisioned or restored. */
  Fail: { readonly error: string; readonly code: FailureCode }
  /** A check of a session at rest found that nothing runs. */
  Settled: {}
  /** Archive the session; once the lease expires, the reconciler stops what may still run. */
  Archive: { readonly leaseExpiresAt: DateTime.Utc; readonly reason: ChangeReason }
  /** Make an archived session available again. */
  Unarchive: {}
}>
export const SessionTransition = Data.taggedEnum<SessionTransition>()

/** The lifecycle state, with `none` for a session that has had no sandbox. */
export type SessionState = LifecycleState | "none"

export const stateOf = (session: Session): SessionState => session.lifecycle.state ?? "none"

export const allowedTransitions: TransitionTable<SessionTransition["_tag"], SessionState> = {
  Provision: { none: ["provisioning"], failed: ["provisioning"] },
  Restore: { active: ["restoring"], hibernated: ["restoring"], failed: ["restoring"] },
  TakeOverLease: { provisioning: ["provisioning"], restoring: ["restoring"], hibernating: ["hibernating"] },
  Activate: { provisioning: ["active"], restoring: ["active"] },
  RecordActivity: { active: ["active"] },
  Hibernate: { active: ["hibernating"] },
  // A stopped session becomes `archived` if its status is `archived`.
  Hibernated: { active: ["hibernated", "archived"], hibernating: ["hibernated", "archived"] },
  MarkLost: {
    active: ["hibernated", "archived"],
    hibernating: ["hibernated", "archived"],
    hibernated: ["hibernated", "archived"],
    restoring: ["restoring"]
  },
  Fail: { provisioning: ["failed"], restoring: ["failed"] },
  Settled: { hibernated: ["hibernated"], archived: ["archived"], failed: ["failed"] },
  Archive: {
    none: ["archived"],
    provisioning: ["hibernating"],
    active: ["hibernating"],
    hibernating: ["hibernating"],
    hibernated: ["archived"],
    restoring: ["hibernating"],
    failed: ["hibernating"]
  },
  Unarchive: { archived: ["none", "hibernated"], hibernating: ["hibernating"] }
}

/** The transitions of an archived session: its sandbox is stopped, or the session is unarchived. */
const whileArchived: ReadonlyArray<SessionTransition["_tag"]> = [
  "TakeOverLease",
  "Hibernated",
  "MarkLost",
  "Settled",
  "Unarchive"
]

/** The event of each state. */
const types: Record<LifecycleState, SandboxEventType> = {
  provisioning: "session.provisioning",
  active: "session.active",
  hibernating: "session.hibernating",
  hibernated: "session.hibernated",
  restoring: "session.restoring",
  archived: "session.archived",
  failed: "session.failed"
}

const typeOf = (before: Session, after: Session, transition: SessionTransition): SandboxEventType | null => {
  // Without a checkout there was nothing to lose.
  const loses = transition._tag === "MarkLost" || (transition._tag === "Restore" && transition.lost)
  if (loses && !before.lifecycle.needsCheckout) return "session.lost"
  const { state } = after.lifecycle
  return state === null || state === before.lifecycle.state ? null : types[state]
}

const eventFor = (
  before: Session,
  after: Session,
  transition: SessionTransition,
  at: DateTime.Utc
): SandboxEvent | null => {
  const type = typeOf(before, after, transition)
  if (type === null) return null
  const { account, id, lifecycle } = after
  const { code, sentence } = reasonOf(transition)
  return new SandboxEvent({
    account,
    type,
    sandbox: lifecycle.sandbox,
    session: id,
    code,
    reason: sentence,
    at
  })
}

const reasonOf = (transition: SessionTransition): ChangeReason => {
  switch (transition._tag) {
    case "Hibernate":
    case "Hibernated":
    case "Archive":
      return transition.reason
    case "MarkLost":
      return { code: "provider_lost", sentence: transition.reason }
    case "Fail":
      return { code: "provision_failed", sentence: transition.error }
    case "Restore":
      return transition.lost ? { code: "provider_lost", sentence: lostReason } : userRequested
    case "Activate":
    case "RecordActivity":
      return { code: "started", sentence: null }
    case "Settled":
      return { code: "stopped", sentence: null }
    case "Provision":
    case "TakeOverLease":
    case "Unarchive":
      return userRequested
  }
}

/** The reason of a session whose provider no longer has its sandbox. */
export const lostReason = "The provider no longer had the sandbox: what was not pushed is lost"

type Change = Partial<Omit<Lifecycle, "version">>

/**
 * How long after its end a session is checked once more if its sandbox may have started unnoticed. Longer than any
 * lease, so the worker that may have started it has ended by then.
 */
export const orphanCheckAfter = Duration.minutes(2)

/** Whether an interrupted worker may have left the sandbox running. */
const mayHaveOrphan = ({ lifecycle: { incarnation, state } }: Session): boolean =>
  incarnation === null && (state === "provisioning" || state === "restoring" || state === "hibernating")

/** The sandbox does not run. An ephemeral session is due for removal, a possible orphan for a later check. */
const atRest = (session: Session, now: DateTime.Utc) => ({
  ...notRunning,
  nextCheckAt: session.ephemeral ? now : mayHaveOrphan(session) ? DateTime.addDuration(now, orphanCheckAfter) : null
})

const notRunning = { hibernateAfter: null, sandboxExpiresAt: null, incarnation: null, attempt: 0 } as const

/** The state of a session whose sandbox is stopped. */
const stoppedState = (session: Session): LifecycleState => (session.status === "archived" ? "archived" : "hibernated")

const noError = { error: null, errorCode: null } as const

const loss = (reason: string) => ({ error: reason, errorCode: "provider_lost" }) as const

const changeOf = (session: Session, transition: SessionTransition, now: DateTime.Utc): Change => {
  const { attempt, error, errorCode, needsCheckout, nextCheckAt, sandbox, state } = session.lifecycle
  const sameError = { error, errorCode }
  switch (transition._tag) {
    case "Provision":
      return {
        state: "provisioning",
        sandbox: sandbox ?? transition.sandbox,
        nextCheckAt: transition.leaseExpiresAt,
        attempt: attempt + 1,
        ...noError
      }
    case "Restore":
      return {
        ...notRunning,
        ...(transition.lost ? { needsCheckout: true } : {}),
        state: "restoring",
        nextCheckAt: transition.leaseExpiresAt,
        attempt: attempt + 1,
        // A loss stays visible until the repository is checked out again.
        ...(transition.lost ? loss(lostReason) : needsCheckout && state !== "failed" ? sameError : noError)
      }
    case "TakeOverLease":
      return { nextCheckAt: transition.leaseExpiresAt, attempt: attempt + 1 }
    case "Activate":
      return {
        state: "active",
        incarnation: transition.incarnation,
        lastActivityAt: now,
        hibernateAfter: transition.idleAt,
        sandboxExpiresAt: transition.expiresAt,
        nextCheckAt: transition.nextCheckAt,
        needsCheckout: false,
        workspace: transition.workspace,
        branch: transition.branch,
        attempt: 0
      }
    case "RecordActivity":
      return {
        ...(transition.byOwner ? { lastActivityAt: now } : {}),
        hibernateAfter: transition.idleAt,
        sandboxExpiresAt: transition.expiresAt,
        nextCheckAt: transition.nextCheckAt
      }
    case "Hibernate":
      return { state: "hibernating", hibernateAfter: null, nextCheckAt: transition.leaseExpiresAt }
    case "Hibernated":
      return { ...atRest(session, now), state: stoppedState(session) }
    case "MarkLost": {
      const lost = { needsCheckout: true, ...(needsCheckout ? sameError : loss(transition.reason)) }
      // The worker that restores it continues with a new sandbox.
      return state === "restoring" ? lost : { ...atRest(session, now), ...lost, state: stoppedState(session) }
    }
    case "Fail":
      return { ...atRest(session, now), state: "failed", error: transition.error, errorCode: transition.code }
    case "Settled":
      return { nextCheckAt: null }
    case "Archive":
      // A failed session may have a sandbox that runs, and so may one that is being provisioned.
      if (state !== null && state !== "hibernated") {
        return { state: "hibernating", hibernateAfter: null, nextCheckAt: transition.leaseExpiresAt }
      }
      return { state: "archived", nextCheckAt: session.ephemeral ? now : nextCheckAt }
    case "Unarchive":
      return state === "hibernating" ? {} : { state: sandbox === null ? null : "hibernated" }
  }
}

/** An allowed transition of a session, with its event. */
export type AppliedSessionTransition = AppliedTransition<Session, SandboxEvent>

export const sessionMachine: StateMachine<Session, SessionTransition, SessionState, SandboxEvent> = {
  allowedTransitions,
  stateOf,
  versionOf: ({ lifecycle }) => lifecycle.version,
  accepts: ({ status }, { _tag }) => status !== "archived" || whileArchived.includes(_tag),
  change: (session, transition, { now, version }) => {
    const { _tag } = transition
    const status = _tag === "Archive" ? "archived" : _tag === "Unarchive" ? "running" : session.status
    const lifecycle = new Lifecycle({ ...session.lifecycle, ...changeOf(session, transition, now), version })
    return new Session({ ...session, status, lifecycle, updatedAt: now })
  },
  eventFor
}

/** The session after a transition; none if it is not allowed. */
export const applySessionTransition = (
  session: Session,
  transition: SessionTransition,
  now: DateTime.Utc
): Option.Option<AppliedSessionTransition> => AppliedTransition.of(sessionMachine, session, transition, now)
