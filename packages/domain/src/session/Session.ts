import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { FailureCode } from "../FailureReason.ts"
import { BranchName } from "../repo/Repo.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"

/** A UUID that the server chooses. */
export const SessionId = Schema.String.check(Schema.isUUID(undefined, { message: "must be a valid UUID" })).pipe(
  Schema.brand("SessionId")
)
export type SessionId = typeof SessionId.Type

/** The status that the owner set. `archived` also stops the sandbox. */
export const SessionStatus = Schema.Literals(["running", "completed", "failed", "archived"])
export type SessionStatus = typeof SessionStatus.Type

/**
 * `provisioning` until the first sandbox runs; `active`; `hibernating` while it is being stopped; `hibernated` with its
 * files kept; `restoring` while it is being resumed; `archived`; `failed` with an error.
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

/** The states in which a session's sandbox runs, may still run, or is about to run. */
export const awake: ReadonlyArray<LifecycleState | null> = ["provisioning", "active", "restoring", "hibernating"]

/** The state of a session's sandbox. */
export class Lifecycle extends Schema.Class<Lifecycle>("Lifecycle")({
  /** Null before the first sandbox. */
  state: Schema.NullOr(LifecycleState),
  /** Increases with every transition. A transition that does not expect the current version is refused. */
  version: Schema.Int,
  /** The name of its sandbox, which never changes; null before the first one. */
  sandbox: Schema.NullOr(SandboxName),
  /** The incarnation that last ran. */
  incarnation: Schema.NullOr(Schema.String),
  /** When it was last used. */
  lastActivityAt: Schema.NullOr(Schema.DateTimeUtc),
  /** When it becomes idle; null unless it is active. */
  hibernateAfter: Schema.NullOr(Schema.DateTimeUtc),
  /** When its provider would stop the sandbox; null unless it is active. */
  sandboxExpiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /**
   * When the reconciler checks it next: the expiry of the worker's lease, if there is one. Null if nothing is to be
   * done.
   */
  nextCheckAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Whether its sandbox is new and its repository has not been checked out yet. */
  needsCheckout: Schema.Boolean,
  /**
   * Whether its working tree is `~/workspace`. Otherwise it is the home directory: the session has no repository, or a
   * server from before workspaces provisioned it last.
   */
  workspace: Schema.Boolean,
  /** The branch that was checked out; null before. */
  branch: Schema.NullOr(BranchName),
  /** Consecutive attempts to provision or restore it. */
  attempt: Schema.Int,
  /** Why it failed, or what was lost, as a sentence for its owner. */
  error: Schema.NullOr(Schema.String),
  /** The code of `error`; null if there is no error, or if an older server wrote it. */
  errorCode: Schema.NullOr(FailureCode)
}) {}

/** A session of an account, which has one sandbox. */
export class Session extends Schema.Class<Session>("Session")({
  id: SessionId,
  account: AccountId,
  title: Schema.String,
  status: SessionStatus,
  /** The organization that it works for, whose base images it may boot from. */
  organization: Schema.NullOr(AccountId),
  /** The URL of its repository; null until it is opened with one. */
  repo: Schema.NullOr(Schema.String),
  /** Whether it is removed when it is idle, instead of hibernated. */
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
