import type { DateTime } from "effect"
import type { AccountId } from "../identity/Account.ts"

/** How many sandboxes an account ever had, and when the last one was made. */
export interface AccountTotal {
  readonly account: AccountId
  readonly email: string | null
  readonly sandboxes: number
  readonly lastCreatedAt: DateTime.Utc
}
