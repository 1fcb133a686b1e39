import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { FailureCode } from "../FailureReason.ts"
import { BranchName } from "../repo/Repo.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"

/** Ours to choose; a UUID. */
export const SessionId = Schema.String.check(Schema.isUUID(undefined, { message: "must be a valid UUID" })).pipe(
  Schema.brand("SessionId")
)
export type SessionId = typeof SessionId.Type

/** What its owner says of it; `archived` also puts its sandbox away. */
export const SessionStatus = Schema.Literals(["running", "completed", "failed", "archived"])
export type SessionStatus = typeof SessionStatus.Type

/**
 * `provisioning`, until it has its first sandbox; `active`; `hibernating`, while that is stopped; `hibernated`, with its
 * files kept; `restoring`, while it is brought back; `archived`, put away; `failed`, with an error.
 */
export const LifecycleState = Schema.Literals([
  "provisioning",
  "active",
  "hibernating",
  "hibernated",
  "restoring",
  "archived",
  "failed"
])
export type LifecycleState = typeof LifecycleState.Type

/** The states in which a session's sandbox runs or is about to, or may still run. */
export const awake: ReadonlyArray<LifecycleState | null> = ["provisioning", "active", "restoring", "hibernating"]

/** Where a session's sandbox stands. */
export class Lifecycle extends Schema.Class<Lifecycle>("Lifecycle")({
  /** Null before the first sandbox. */
  state: Schema.NullOr(LifecycleState),
  /** Grows with every step; a step that does not know the last one is refused. */
  version: Schema.Int,
  /** The name its sandbox has for life; null before the first. */
  sandbox: Schema.NullOr(SandboxName),
  /** Which run of the sandbox it was when it was last seen running. */
  incarnation: Schema.NullOr(Schema.String),
  /** When somebody last used it. */
  lastActivityAt: Schema.NullOr(Schema.DateTimeUtc),
  /** From when on it is idle; null unless it is active. */
  hibernateAfter: Schema.NullOr(Schema.DateTimeUtc),
  /** When its provider would stop it; null unless it is active. */
  sandboxExpiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** When the reconciler looks at it next: who works on it has until then. Null where there is nothing to do. */
  nextCheckAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Whether its sandbox is new: its repository has not been brought in yet. */
  needsCheckout: Schema.Boolean,
  /**
   * Whether its working tree is `~/workspace`, in which its commands run. Else it is the home directory: it has no
   * repository, or a server from before workspaces brought it up last.
   */
  workspace: Schema.Boolean,
  /** The branch that was brought in; null before. */
  branch: Schema.NullOr(BranchName),
  /** How often in a row bringing it up was begun. */
  attempt: Schema.Int,
  /** Why it failed, or what was lost, in words for its owner. */
  error: Schema.NullOr(Schema.String),
  /** The code of `error`; null where there is no error, and for errors of servers that wrote no code. */
  errorCode: Schema.NullOr(FailureCode)
}) {}

/** A session of an account, which has one sandbox. */
export class Session extends Schema.Class<Session>("Session")({
  id: SessionId,
  account: AccountId,
  title: Schema.String,
  status: SessionStatus,
  /** The organization it works for, whose base images it may boot from. */
  organization: Schema.NullOr(AccountId),
  /** The URL of the repository it works on; null until it is opened with one. */
  repo: Schema.NullOr(Schema.String),
  /** Whether it goes for good when it is idle, instead of sleeping. */
  ephemeral: Schema.Boolean,
  createdAt: Schema.DateTimeUtc,
  updatedAt: Schema.DateTimeUtc,
  lifecycle: Lifecycle
}) {}

/** The lifecycle of a session that has not been opened yet. */
export const unopened = new Lifecycle({
  state: null,
  version: 0,
  sandbox: null,
  incarnation: null,
  lastActivityAt: null,
  hibernateAfter: null,
  sandboxExpiresAt: null,
  nextCheckAt: null,
  needsCheckout: true,
  workspace: false,
  branch: null,
  attempt: 0,
  error: null,
  errorCode: null
})
