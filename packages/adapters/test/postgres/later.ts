/** A database as a later version leaves it, by what a migration may do: it only adds. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import { Effect, Layer, Redacted } from "effect"
import { type Kysely, sql } from "kysely"
import { postgresUrl } from "./databases.ts"

const tablesOf = (kysely: Kysely<never>) =>
  sql<{ readonly name: string }>`
    select table_name as name from information_schema.tables
    where table_schema = 'public' and table_name not like 'castellan_migrations%'`.execute(kysely)

/** Does to a database what the later version's migration of that name does. */
export const migratedLater = (name: string) =>
  Effect.flatMap(Db.Db, (db) =>
    Effect.promise(async () => {
      const kysely = db.kysely as unknown as Kysely<never>
      for (const { name } of (await tablesOf(kysely)).rows) {
        const table = sql.table(name)
        await sql`alter table ${table} add column later_text text`.execute(kysely)
        await sql`alter table ${table} add column later_flag boolean not null default false`.execute(kysely)
      }
      await sql`create table later_things (id uuid primary key, account_id uuid not null references accounts)`.execute(
        kysely
      )
      await sql`create index later_text_of_runs on task_runs (later_text)`.execute(kysely)
      const at = new Date().toISOString()
      await sql`insert into castellan_migrations (name, timestamp) values (${name}, ${at})`.execute(kysely)
    })
  )

/** A new database of a later version. */
export const url = Effect.tap(postgresUrl, (url) =>
  Effect.provide(migratedLater("9001_later"), Db.layerPostgres({ url: Redacted.make(url) }))
)

/** This version over it. */
export const postgres = Layer.unwrap(Effect.map(url, (url) => Db.layerPostgres({ url: Redacted.make(url) })))
