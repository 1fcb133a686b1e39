import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { type RawBuilder, sql } from "kysely"

/**
 * Waits for the account's turn, which lasts as long as the transaction: whoever has it is the only one to write events of
 * the account, so that their places grow in the order in which they can be seen. It comes before the locks of rows. It is
 * the lock that `live_sandboxes` takes.
 */
export const turnOf = ({ account }: AccountScope): RawBuilder<{ readonly taken: boolean }> =>
  sql`select true as taken from pg_advisory_xact_lock(hashtextextended('account_sandboxes ' || ${account}::uuid, 0))`
