import { type DateTime, Schema } from "effect"
import { SandboxName } from "./SandboxName.ts"

/**
 * `pending` until it can run commands; `running`; `stopping`; `stopped`, with its files kept; `failed`, with a reason.
 */
export const SandboxStatus = Schema.Literals(["pending", "running", "stopping", "stopped", "failed"])
export type SandboxStatus = typeof SandboxStatus.Type

/** A sandbox as its provider sees it. */
export class Sandbox extends Schema.Class<Sandbox>("Sandbox")({
  name: SandboxName,
  status: SandboxStatus,
  createdAt: Schema.DateTimeUtc,
  /** Which run of it this is, or the last was: another each time it begins to run. */
  incarnation: Schema.String,
  /** When its provider stops it by itself. */
  expiresAt: Schema.DateTimeUtc,
  /** Why it stopped or failed, in words for its owner; null while it runs or where nobody knows. */
  reason: Schema.NullOr(Schema.String)
}) {}

/** Milliseconds until it stops by itself; 0 once it has. */
export const remaining = (
  sandbox: { readonly status: SandboxStatus; readonly expiresAt: DateTime.Utc | null },
  now: DateTime.Utc
): number =>
  sandbox.expiresAt === null || sandbox.status === "stopped" || sandbox.status === "failed"
    ? 0
    : Math.max(0, sandbox.expiresAt.epochMilliseconds - now.epochMilliseconds)
