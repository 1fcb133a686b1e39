import type { DateTime } from "effect"
import type { AccountId } from "../identity/Account.ts"

/** How many sandboxes an account has ever had, and when it created the newest. */
export interface AccountTotal {
  readonly account: AccountId
  readonly email: string | null
  readonly sandboxes: number
  readonly lastCreatedAt: DateTime.Utc
}
