/** What may become of a session's sandbox, step by step. Nothing else can be written: stores take nothing but steps. */
import { Data, DateTime, Duration, Option } from "effect"
import type { FailureCode } from "../FailureReason.ts"
import { SandboxEvent, type SandboxEventType } from "../sandbox/SandboxEvent.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { BranchName } from "../repo/Repo.ts"
import { Lifecycle, type LifecycleState, Session } from "./Session.ts"

/** What somebody wants to happen to a session's lifecycle. */
export type Move = Data.TaggedEnum<{
  /** Begin to make its first sandbox, or the next after one that could not be made. */
  Provision: { readonly sandbox: SandboxName; readonly until: DateTime.Utc }
  /** Begin to bring its sandbox back; `lost` where its provider no longer has it. */
  Restore: { readonly until: DateTime.Utc; readonly lost: boolean }
  /** Go on with what somebody else began and did not finish in time. */
  TakeOver: { readonly until: DateTime.Utc }
  /** Its sandbox runs, with its repository on that branch. */
  Run: {
    readonly incarnation: string
    readonly expiresAt: DateTime.Utc
    readonly idleAt: DateTime.Utc
    readonly lookAt: DateTime.Utc
    readonly workspace: boolean
    readonly branch: BranchName | null
  }
  /** Somebody uses it, or it was given more time. */
  Use: {
    readonly expiresAt: DateTime.Utc
    readonly idleAt: DateTime.Utc
    readonly lookAt: DateTime.Utc
    readonly byOwner: boolean
  }
  /** Begin to stop its sandbox, with the reason. */
  Hibernate: { readonly until: DateTime.Utc; readonly reason: string }
  /** Its sandbox is stopped and keeps its files; `reason` where nobody asked for it. */
  Sleep: { readonly reason: string | null }
  /** Its provider no longer has its sandbox. */
  Lose: { readonly reason: string }
  /** It could not be brought up. */
  Fail: { readonly error: string; readonly code: FailureCode }
  /** It was looked at where it rests, and nothing runs. */
  Settle: {}
  /** Put it away; whoever comes by at `until` at the latest stops what may still run. */
  Archive: { readonly until: DateTime.Utc }
  /** Take it out again. */
  Unarchive: {}
}>
export const Move = Data.taggedEnum<Move>()

/** The state before the first sandbox has no name; here it has one. */
export type Stage = LifecycleState | "none"

export const stageOf = (session: Session): Stage => session.lifecycle.state ?? "none"

/** The states that each move may begin in. What is not here is not legal. */
export const legal: Record<Move["_tag"], ReadonlyArray<Stage>> = {
  Provision: ["none", "failed"],
  Restore: ["active", "hibernated", "failed"],
  TakeOver: ["provisioning", "restoring", "hibernating"],
  Run: ["provisioning", "restoring"],
  Use: ["active"],
  Hibernate: ["active"],
  Sleep: ["active", "hibernating"],
  Lose: ["active", "hibernating", "hibernated", "restoring"],
  Fail: ["provisioning", "restoring"],
  Settle: ["hibernated", "archived", "failed"],
  Archive: ["none", "provisioning", "active", "hibernating", "hibernated", "restoring", "failed"],
  Unarchive: ["archived", "hibernating"]
}

/** A legal step: the session as it is to be, and what is told of it. Only `step` makes one. */
export class Step {
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
  static readonly of = (session: Session, move: Move, now: DateTime.Utc): Option.Option<Step> => {
    if (!legal[move._tag].includes(stageOf(session))) return Option.none()
    if (session.status === "archived" && !staysArchived.includes(move._tag)) return Option.none()
    const next = after(session, move, now)
    return Option.some(new Step(next, this.told(session, next, move, now)))
  }

  private static told(before: Session, next: Session, move: Move, now: DateTime.Utc): SandboxEvent | null {
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
const staysArchived: ReadonlyArray<Move["_tag"]> = ["TakeOver", "Sleep", "Lose", "Settle", "Unarchive"]

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

const typeOf = (before: Session, next: Session, move: Move): SandboxEventType | null => {
  // What has never been brought in can't be lost.
  const loses = move._tag === "Lose" || (move._tag === "Restore" && move.lost)
  if (loses && !before.lifecycle.fresh) return "session.lost"
  const { state } = next.lifecycle
  return state === null || state === before.lifecycle.state ? null : types[state]
}

const reasonOf = (move: Move): string | null => {
  switch (move._tag) {
    case "Hibernate":
    case "Lose":
    case "Sleep":
      return move.reason
    case "Fail":
      return move.error
    case "Restore":
      return move.lost ? lostReason : null
    case "Archive":
    case "Provision":
    case "Run":
    case "Settle":
    case "TakeOver":
    case "Unarchive":
    case "Use":
      return null
  }
}

/** What is said where a provider no longer has a sandbox. */
export const lostReason = "The provider no longer had the sandbox: what was not pushed is lost"

const after = (session: Session, move: Move, now: DateTime.Utc): Session => {
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
  lookAt: session.ephemeral ? now : isDoubtful(session) ? DateTime.addDuration(now, settledAfter) : null
})

const nothingRuns = { hibernateAfter: null, sandboxExpiresAt: null, incarnation: null, attempt: 0 } as const

/** Where a session rests whose sandbox is stopped. */
const resting = (session: Session): LifecycleState => (session.status === "archived" ? "archived" : "hibernated")

const noError = { error: null, errorCode: null } as const

const loss = (reason: string) => ({ error: reason, errorCode: "provider_lost" }) as const

const changeOf = (session: Session, move: Move, now: DateTime.Utc): Change => {
  const { attempt, error, errorCode, fresh, lookAt, sandbox, state } = session.lifecycle
  const told = { error, errorCode }
  switch (move._tag) {
    case "Provision":
      return {
        state: "provisioning",
        sandbox: sandbox ?? move.sandbox,
        lookAt: move.until,
        attempt: attempt + 1,
        ...noError
      }
    case "Restore":
      return {
        ...nothingRuns,
        ...(move.lost ? { fresh: true } : {}),
        state: "restoring",
        lookAt: move.until,
        attempt: attempt + 1,
        // What was lost is told until it has been brought back with everything.
        ...(move.lost ? loss(lostReason) : fresh && state !== "failed" ? told : noError)
      }
    case "TakeOver":
      return { lookAt: move.until, attempt: attempt + 1 }
    case "Run":
      return {
        state: "active",
        incarnation: move.incarnation,
        lastActivityAt: now,
        hibernateAfter: move.idleAt,
        sandboxExpiresAt: move.expiresAt,
        lookAt: move.lookAt,
        fresh: false,
        workspace: move.workspace,
        branch: move.branch,
        attempt: 0
      }
    case "Use":
      return {
        ...(move.byOwner ? { lastActivityAt: now } : {}),
        hibernateAfter: move.idleAt,
        sandboxExpiresAt: move.expiresAt,
        lookAt: move.lookAt
      }
    case "Hibernate":
      return { state: "hibernating", hibernateAfter: null, lookAt: move.until }
    case "Sleep":
      return { ...restOf(session, now), state: resting(session) }
    case "Lose": {
      const lost = { fresh: true, ...(fresh ? told : loss(move.reason)) }
      // While it is brought back there is nobody who would not go on.
      return state === "restoring" ? lost : { ...restOf(session, now), ...lost, state: resting(session) }
    }
    case "Fail":
      return { ...restOf(session, now), state: "failed", error: move.error, errorCode: move.code }
    case "Settle":
      return { lookAt: null }
    case "Archive":
      // A failed one may have a sandbox that runs, and so may one that is on its way.
      if (state !== null && state !== "hibernated") {
        return { state: "hibernating", hibernateAfter: null, lookAt: move.until }
      }
      return { state: "archived", lookAt: session.ephemeral ? now : lookAt }
    case "Unarchive":
      return state === "hibernating" ? {} : { state: sandbox === null ? null : "hibernated" }
  }
}
