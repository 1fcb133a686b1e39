/** An app: a web app of an account, under construction in a sandbox with a dev server. */
import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { Port } from "../sandbox/Port.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"

/**
 * `starting`: the page does not answer yet. `ready`: it has answered. `stopped`: the sandbox is stopped and keeps its
 * files. `ending`: the sandbox is being removed. `ended`: it is removed.
 */
export const AppState = Schema.Literals(["starting", "ready", "stopped", "ending", "ended"])
export type AppState = typeof AppState.Type

/** Whether an app is its account's active one: at most one of an account is ready or stopped. */
export const isActive = ({ state }: { readonly state: AppState }): boolean => state === "ready" || state === "stopped"

export class AppSandbox extends Schema.Class<AppSandbox>("AppSandbox")({
  /** The name of the app and of its sandbox. It can't be guessed, and is valid in a host name. */
  name: SandboxName,
  account: AccountId,
  state: AppState,
  /** Increases with every transition. A transition from an older version is refused. */
  version: Schema.Int,
  /** The port of its dev server. */
  port: Port,
  createdAt: Schema.DateTimeUtc,
  /** When its provider stops it; null until its page has answered. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** When it is due for the reconciler: the lease of a worker lasts until then. Null where there is no work left. */
  nextCheckAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Why it stopped or ended, as a sentence for its owner; null if its owner requested it. */
  reason: Schema.NullOr(Schema.String)
}) {}
