/** Why a sandbox, session or app changed, for its owner: a code for programs and a sentence for people. */
import { Schema } from "effect"

/** The codes of events, stored and on the wire. A change of meaning needs a new code. */
export const ChangeCode = Schema.Literals([
  /** It was created. */
  "created",
  /** Its sandbox runs. */
  "started",
  /** Its sandbox stopped, and no more specific code is known. */
  "stopped",
  /** The owner requested it, or a task that the owner started. */
  "user_requested",
  /** It was not used for longer than the idle time. */
  "idle_timeout",
  /** The lifetime of its sandbox is nearly over. */
  "lifetime_over",
  /** The provider no longer has its sandbox. */
  "provider_lost",
  /** Its sandbox could not be created or prepared. */
  "provision_failed",
  /** The provider reports that its sandbox failed, for example because it exceeded a limit. */
  "sandbox_failed",
  /** Another app of the account became active. */
  "replaced",
  /** An ephemeral session has ended. */
  "ephemeral_ended",
  /** Its files were kept for the retention time after it stopped. */
  "retention_over",
  /** It had already ended, and now its sandbox or its row was removed. */
  "removed"
])
export type ChangeCode = typeof ChangeCode.Type

export interface ChangeReason {
  readonly code: ChangeCode
  /** For the owner; null if the code says everything. */
  readonly sentence: string | null
}

/** The owner requested the change. */
export const userRequested: ChangeReason = { code: "user_requested", sentence: null }

/** The owner deleted it. */
export const deletedByOwner: ChangeReason = { code: "user_requested", sentence: "It was deleted" }
