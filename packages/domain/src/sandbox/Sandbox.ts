import { type DateTime, Schema } from "effect"
import { SandboxName } from "./SandboxName.ts"

/** `pending` until it can run commands. A `stopped` sandbox keeps its files. A `failed` one has a reason. */
export const SandboxStatus = Schema.Literals(["pending", "running", "stopping", "stopped", "failed"])
export type SandboxStatus = typeof SandboxStatus.Type

/** A sandbox as its provider reports it. */
export class Sandbox extends Schema.Class<Sandbox>("Sandbox")({
  name: SandboxName,
  status: SandboxStatus,
  createdAt: Schema.DateTimeUtc,
  /** Identifies the current or last run of the sandbox. Every start or resume has a new one. */
  incarnation: Schema.String,
  /** When its provider stops it. */
  expiresAt: Schema.DateTimeUtc,
  /** Why it stopped or failed, as a sentence for its owner; null while it runs or if the reason is unknown. */
  reason: Schema.NullOr(Schema.String)
}) {}

/** Milliseconds until its provider stops it; 0 if it is stopped or failed, or has no known end. */
export const remaining = (
  sandbox: { readonly status: SandboxStatus; readonly expiresAt: DateTime.Utc | null },
  now: DateTime.Utc
): number =>
  sandbox.expiresAt === null || sandbox.status === "stopped" || sandbox.status === "failed"
    ? 0
    : Math.max(0, sandbox.expiresAt.epochMilliseconds - now.epochMilliseconds)
