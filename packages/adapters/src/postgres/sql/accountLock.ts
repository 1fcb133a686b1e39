/** The advisory lock of an account, under which its events are written. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { type RawBuilder, sql } from "kysely"

/**
 * Waits for the account's lock, which is held until the transaction ends. Only its holder writes events of the account,
 * so their places grow in the order in which readers can see them. It is taken before row locks. `live_sandboxes` takes
 * the same lock.
 */
export const accountLock = ({ account }: AccountScope): RawBuilder<{ readonly taken: boolean }> =>
  sql`select true as taken from pg_advisory_xact_lock(hashtextextended('account_sandboxes ' || ${account}::uuid, 0))`
