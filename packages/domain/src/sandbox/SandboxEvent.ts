/** Events of sandboxes and sessions, as their owners read them. */
import { Schema } from "effect"
import { ChangeCode } from "../ChangeReason.ts"
import { AccountId } from "../identity/Account.ts"
import { SandboxName } from "./SandboxName.ts"

export const SandboxEventType = Schema.Literals([
  "sandbox.pending",
  "sandbox.running",
  "sandbox.stopping",
  "sandbox.stopped",
  "sandbox.failed",
  "sandbox.removed",
  "session.created",
  "session.provisioning",
  "session.active",
  "session.hibernating",
  "session.hibernated",
  "session.restoring",
  "session.archived",
  "session.failed",
  "session.lost",
  "session.removed"
])
export type SandboxEventType = typeof SandboxEventType.Type

/** The position of a reader. Opaque to callers, increasing, and valid while the events are stored. */
export const EventCursor = Schema.String.check(Schema.isPattern(/^\d{1,18}$/)).pipe(Schema.brand("EventCursor"))
export type EventCursor = typeof EventCursor.Type

/** A state change of a sandbox or session. */
export class SandboxEvent extends Schema.Class<SandboxEvent>("SandboxEvent")({
  account: AccountId,
  type: SandboxEventType,
  /** Null if the session has no sandbox yet. */
  sandbox: Schema.NullOr(SandboxName),
  /** Null for a sandbox without a session. */
  session: Schema.NullOr(Schema.String),
  /** Why it happened; null for an event of an older server. */
  code: Schema.NullOr(ChangeCode),
  /** Why it happened, as a sentence for the owner; null if `code` says everything. */
  reason: Schema.NullOr(Schema.String),
  at: Schema.DateTimeUtc
}) {}
