/** Claims due rows: each row is returned to one caller, which then holds its lease. */
import type { DateTime } from "effect"
import { type Kysely, type Selectable, sql } from "kysely"
import type { Tables } from "./Tables.ts"
import { toDate } from "./times.ts"

/** The primary key of each table that has a `look_at`. */
const keys = { sessions: "id", app_sandboxes: "name" } as const

/**
 * The rows whose `look_at` is not after `now`, longest due first, at most `limit`. Sets their `look_at` to
 * `leaseExpiresAt`. Skips rows that another caller is claiming, instead of waiting for them.
 */
export const claimDue = async <Table extends keyof typeof keys>(
  db: Kysely<Tables>,
  table: Table,
  now: DateTime.Utc,
  leaseExpiresAt: DateTime.Utc,
  limit: number
): Promise<ReadonlyArray<Selectable<Tables[Table]>>> => {
  const key = sql.ref(keys[table])
  const target = sql.table(table)
  const { rows } = await sql<Selectable<Tables[Table]>>`
    with due as materialized (
      select ${key} as key, look_at as was from ${target} where look_at <= ${toDate(now)}
      order by look_at limit ${limit} for update skip locked
    ), claimed as (
      update ${target} as row set look_at = ${toDate(leaseExpiresAt)} from due where row.${key} = due.key
      returning row.*, due.was
    )
    select * from claimed order by was`.execute(db)
  return rows
}
