/** Changes one row and writes its event in the same statement, under the lock of its account. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { type Kysely, type OperationNodeSource, type RawBuilder, sql } from "kysely"
import type { Tables } from "./Tables.ts"
import { toDateOrNull } from "./times.ts"
import { accountLock } from "./accountLock.ts"

/** The columns of the changed row that become the sandbox and the session of its event. */
const eventColumns = {
  sessions: sql`sandbox, id`,
  app_sandboxes: sql`name, null::text`
}

/**
 * Runs `change` and gives the row that it returns. The event is written only if there is one. `change` must use the
 * condition that it is given, so that the account is locked before the row.
 */
export const withEvent = async <Row>(
  db: Kysely<Tables>,
  table: keyof typeof eventColumns,
  scope: AccountScope,
  event: Pick<SandboxEvent, "type" | "code" | "reason" | "at"> | null,
  change: (locked: RawBuilder<boolean>) => OperationNodeSource
): Promise<Row | undefined> => {
  const at = toDateOrNull(event?.at ?? null)
  const { rows } = await sql<Row>`
    with account as materialized (${accountLock(scope)}),
    changed as (${change(sql<boolean>`(select taken from account)`)}),
    written as (
      insert into events (account_id, type, sandbox, session, code, reason, at)
      select account_id, ${event?.type ?? null}, ${eventColumns[table]}, ${event?.code ?? null}, ${event?.reason ?? null},
        ${at}::timestamptz
      from changed where ${event !== null}::boolean
    )
    select * from changed`.execute(db)
  return rows[0]
}
