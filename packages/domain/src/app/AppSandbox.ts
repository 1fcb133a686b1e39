import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { Port } from "../sandbox/Port.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"

/**
 * `starting`, until its page answers; `ready`; `stopped`, with its files kept; `ending`, until its provider has forgotten
 * it; `ended`.
 */
export const AppState = Schema.Literals(["starting", "ready", "stopped", "ending", "ended"])
export type AppState = typeof AppState.Type

/** Whether an app is its account's active one: at most one of an account is ready or stopped. */
export const isActive = ({ state }: { readonly state: AppState }): boolean => state === "ready" || state === "stopped"

/** A web app of an account that is under construction in a sandbox of its own, with its dev server. */
export class AppSandbox extends Schema.Class<AppSandbox>("AppSandbox")({
  /** The name of its sandbox, and its own; it can't be guessed, and can stand in a host name. */
  name: SandboxName,
  account: AccountId,
  state: AppState,
  /** Grows with every step; a step that does not know the last one is refused. */
  version: Schema.Int,
  /** What its dev server listens on. */
  port: Port,
  createdAt: Schema.DateTimeUtc,
  /** When its provider stops it; null until it was made. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** When somebody looks at it next: who works on it has until then. Null where there is nothing to do. */
  nextCheckAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Why it stopped or ended, in words for its owner; null where it is what was asked for. */
  reason: Schema.NullOr(Schema.String)
}) {}
