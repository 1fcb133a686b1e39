import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { SandboxName } from "./SandboxName.ts"

/** What can happen to a sandbox, or to the session it belongs to. */
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

/** Where a reader of events has come to: opaque, growing, and good for as long as the events are kept. */
export const EventCursor = Schema.String.check(Schema.isPattern(/^\d{1,18}$/)).pipe(Schema.brand("EventCursor"))
export type EventCursor = typeof EventCursor.Type

/** Something that happened to a sandbox or session of an account. */
export class SandboxEvent extends Schema.Class<SandboxEvent>("SandboxEvent")({
  account: AccountId,
  type: SandboxEventType,
  /** Null for a session that has none yet. */
  sandbox: Schema.NullOr(SandboxName),
  /** The id of the session it belongs to; null for a sandbox of the account's own. */
  session: Schema.NullOr(Schema.String),
  /** Why, in words for its owner; null where it is what was asked for. */
  reason: Schema.NullOr(Schema.String),
  at: Schema.DateTimeUtc
}) {}
