/** What may become of a session's sandbox, step by step. Nothing else can be written: stores take nothing but steps. */
import { Data, DateTime, Duration, Option } from "effect"
import type { FailureCode } from "../FailureReason.ts"
import { SandboxEvent, type SandboxEventType } from "../sandbox/SandboxEvent.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { BranchName } from "../repo/Repo.ts"
import { Lifecycle, type LifecycleState, Session } from "./Session.ts"

/** What somebody wants to happen to a session's lifecycle. */
export type SessionTransition = Data.TaggedEnum<{
  /** Begin to make its first sandbox, or the next after one that could not be made. */
  Provision: { readonly sandbox: SandboxName; readonly leaseExpiresAt: DateTime.Utc }
  /** Begin to bring its sandbox back; `lost` where its provider no longer has it. */
  Restore: { readonly leaseExpiresAt: DateTime.Utc; readonly lost: boolean }
  /** Go on with what somebody else began and did not finish in time. */
  TakeOverLease: { readonly leaseExpiresAt: DateTime.Utc }
  /** Its sandbox runs, with its repository on that branch. */
  Activate: {
    readonly incarnation: string
    readonly expiresAt: DateTime.Utc
    readonly idleAt: DateTime.Utc
    readonly nextCheckAt: DateTime.Utc
    readonly workspace: boolean
    readonly branch: BranchName | null
  }
  /** Somebody uses it, or it was given more time. */
  RecordActivity: {
    readonly expiresAt: DateTime.Utc
    readonly idleAt: DateTime.Utc
    readonly nextCheckAt: DateTime.Utc
    readonly byOwner: boolean
  }
  /** Begin to stop its sandbox, with the reason. */
  Hibernate: { readonly leaseExpiresAt: DateTime.Utc; readonly reason: string }
  /** Its sandbox is stopped and keeps its files; `reason` where nobody asked for it. */
  Hibernated: { readonly reason: string | null }
  /** Its provider no longer has its sandbox. */
  MarkLost: { readonly reason: string }
  /** It could not be brought up. */
  Fail: { readonly error: string; readonly code: FailureCode }
  /** It was looked at where it rests, and nothing runs. */
  Settled: {}
  /** Put it away; whoever comes by at `until` at the latest stops what may still run. */
  Archive: { readonly leaseExpiresAt: DateTime.Utc }
  /** Take it out again. */
  Unarchive: {}
}>
export const SessionTransition = Data.taggedEnum<SessionTransition>()

/** The state before the first sandbox has no name; here it has one. */
export type SessionState = LifecycleState | "none"

export const stateOf = (session: Session): SessionState => session.lifecycle.state ?? "none"

/** The states that each move may begin in. What is not here is not legal. */
export const allowedTransitions: Record<SessionTransition["_tag"], ReadonlyArray<SessionState>> = {
  Provision: ["none", "failed"],
  Restore: ["active", "hibernated", "failed"],
  TakeOverLease: ["provisioning", "restoring", "hibernating"],
  Activate: ["provisioning", "restoring"],
  RecordActivity: ["active"],
  Hibernate: ["active"],
  Hibernated: ["active", "hibernating"],
  MarkLost: ["active", "hibernating", "hibernated", "restoring"],
  Fail: ["provisioning", "restoring"],
  Settled: ["hibernated", "archived", "failed"],
  Archive: ["none", "provisioning", "active", "hibernating", "hibernated", "restoring", "failed"],
  Unarchive: ["archived", "hibernating"]
}

/** A legal step: the session as it is to be, and what is told of it. Only `step` makes one. */
export class AppliedSessionTransition {
  /** The session as it will be, one version on. */
  readonly session: Session
  /** What is told of it; null where nothing changed that anybody would want to know. */
  readonly event: SandboxEvent | null
  readonly #made = true

  private constructor(session: Session, event: SandboxEvent | null) {
    this.session = session
    this.event = event
  }

  /** The step that a move is for a session now; none where it is not legal. */
  static readonly of = (
    session: Session,
    move: SessionTransition,
    now: DateTime.Utc
  ): Option.Option<AppliedSessionTransition> => {
    if (!allowedTransitions[move._tag].includes(stateOf(session))) return Option.none()
    if (session.status === "archived" && !staysArchived.includes(move._tag)) return Option.none()
    const next = after(session, move, now)
    return Option.some(new AppliedSessionTransition(next, this.told(session, next, move, now)))
  }

  private static told(before: Session, next: Session, move: SessionTransition, now: DateTime.Utc): SandboxEvent | null {
    const type = typeOf(before, next, move)
    return type === null
      ? null
      : new SandboxEvent({
          account: next.account,
          type,
          sandbox: next.lifecycle.sandbox,
          session: next.id,
          reason: reasonOf(move),
          at: now
        })
  }

  /** Whether it was made here. */
  get isStep(): boolean {
    return this.#made
  }
}

/** What may still happen to a session that was put away. */
const staysArchived: ReadonlyArray<SessionTransition["_tag"]> = [
  "TakeOverLease",
  "Hibernated",
  "MarkLost",
  "Settled",
  "Unarchive"
]

/** The events of a session's states. */
const types: Record<LifecycleState, SandboxEventType> = {
  provisioning: "session.provisioning",
  active: "session.active",
  hibernating: "session.hibernating",
  hibernated: "session.hibernated",
  restoring: "session.restoring",
  archived: "session.archived",
  failed: "session.failed"
}

const typeOf = (before: Session, next: Session, move: SessionTransition): SandboxEventType | null => {
  // What has never been brought in can't be lost.
  const loses = move._tag === "MarkLost" || (move._tag === "Restore" && move.lost)
  if (loses && !before.lifecycle.needsCheckout) return "session.lost"
  const { state } = next.lifecycle
  return state === null || state === before.lifecycle.state ? null : types[state]
}

const reasonOf = (move: SessionTransition): string | null => {
  switch (move._tag) {
    case "Hibernate":
    case "MarkLost":
    case "Hibernated":
      return move.reason
    case "Fail":
      return move.error
    case "Restore":
      return move.lost ? lostReason : null
    case "Archive":
    case "Provision":
    case "Activate":
    case "Settled":
    case "TakeOverLease":
    case "Unarchive":
    case "RecordActivity":
      return null
  }
}

/** What is said where a provider no longer has a sandbox. */
export const lostReason = "The provider no longer had the sandbox: what was not pushed is lost"

const after = (session: Session, move: SessionTransition, now: DateTime.Utc): Session => {
  const status = move._tag === "Archive" ? "archived" : move._tag === "Unarchive" ? "running" : session.status
  const lifecycle = new Lifecycle({
    ...session.lifecycle,
    ...changeOf(session, move, now),
    version: session.lifecycle.version + 1
  })
  return new Session({ ...session, status, lifecycle, updatedAt: now })
}

type Change = Partial<Omit<Lifecycle, "version">>

/**
 * How long after an end one looks whether something runs after all, where nobody saw it begin: longer than whoever was
 * at it can have been silent.
 */
const settledAfter = Duration.minutes(2)

/** Whether somebody may have been bringing its sandbox up, and have been cut off before it was known that it runs. */
const isDoubtful = ({ lifecycle: { incarnation, state } }: Session): boolean =>
  incarnation === null && (state === "provisioning" || state === "restoring" || state === "hibernating")

/** Nothing runs; what was not meant to stay is to be forgotten, and what is doubtful to be looked at again. */
const restOf = (session: Session, now: DateTime.Utc) => ({
  ...nothingRuns,
  nextCheckAt: session.ephemeral ? now : isDoubtful(session) ? DateTime.addDuration(now, settledAfter) : null
})

const nothingRuns = { hibernateAfter: null, sandboxExpiresAt: null, incarnation: null, attempt: 0 } as const

/** Where a session rests whose sandbox is stopped. */
const resting = (session: Session): LifecycleState => (session.status === "archived" ? "archived" : "hibernated")

const noError = { error: null, errorCode: null } as const

const loss = (reason: string) => ({ error: reason, errorCode: "provider_lost" }) as const

const changeOf = (session: Session, move: SessionTransition, now: DateTime.Utc): Change => {
  const { attempt, error, errorCode, needsCheckout: fresh, nextCheckAt: lookAt, sandbox, state } = session.lifecycle
  const told = { error, errorCode }
  switch (move._tag) {
    case "Provision":
      return {
        state: "provisioning",
        sandbox: sandbox ?? move.sandbox,
        nextCheckAt: move.leaseExpiresAt,
        attempt: attempt + 1,
        ...noError
      }
    case "Restore":
      return {
        ...nothingRuns,
        ...(move.lost ? { needsCheckout: true } : {}),
        state: "restoring",
        nextCheckAt: move.leaseExpiresAt,
        attempt: attempt + 1,
        // What was lost is told until it has been brought back with everything.
        ...(move.lost ? loss(lostReason) : fresh && state !== "failed" ? told : noError)
      }
    case "TakeOverLease":
      return { nextCheckAt: move.leaseExpiresAt, attempt: attempt + 1 }
    case "Activate":
      return {
        state: "active",
        incarnation: move.incarnation,
        lastActivityAt: now,
        hibernateAfter: move.idleAt,
        sandboxExpiresAt: move.expiresAt,
        nextCheckAt: move.nextCheckAt,
        needsCheckout: false,
        workspace: move.workspace,
        branch: move.branch,
        attempt: 0
      }
    case "RecordActivity":
      return {
        ...(move.byOwner ? { lastActivityAt: now } : {}),
        hibernateAfter: move.idleAt,
        sandboxExpiresAt: move.expiresAt,
        nextCheckAt: move.nextCheckAt
      }
    case "Hibernate":
      return { state: "hibernating", hibernateAfter: null, nextCheckAt: move.leaseExpiresAt }
    case "Hibernated":
      return { ...restOf(session, now), state: resting(session) }
    case "MarkLost": {
      const lost = { needsCheckout: true, ...(fresh ? told : loss(move.reason)) }
      // While it is brought back there is nobody who would not go on.
      return state === "restoring" ? lost : { ...restOf(session, now), ...lost, state: resting(session) }
    }
    case "Fail":
      return { ...restOf(session, now), state: "failed", error: move.error, errorCode: move.code }
    case "Settled":
      return { nextCheckAt: null }
    case "Archive":
      // A failed one may have a sandbox that runs, and so may one that is on its way.
      if (state !== null && state !== "hibernated") {
        return { state: "hibernating", hibernateAfter: null, nextCheckAt: move.leaseExpiresAt }
      }
      return { state: "archived", nextCheckAt: session.ephemeral ? now : lookAt }
    case "Unarchive":
      return state === "hibernating" ? {} : { state: sandbox === null ? null : "hibernated" }
  }
}
