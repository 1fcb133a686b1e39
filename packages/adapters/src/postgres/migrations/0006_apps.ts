import { type Kysely, sql } from "kysely"

export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema
    .createTable("app_sandboxes")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("state", "text", (column) => column.notNull())
    .addColumn("version", "integer", (column) => column.notNull())
    .addColumn("port", "integer", (column) => column.notNull())
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addColumn("expires_at", "timestamptz")
    .addColumn("look_at", "timestamptz")
    .addColumn("reason", "text")
    .execute()
  await sql`create unique index app_sandboxes_starting on app_sandboxes (account_id) where state = 'starting'`.execute(
    db
  )
  await sql`
    create unique index app_sandboxes_active on app_sandboxes (account_id) where state in ('ready', 'stopped')`.execute(
    db
  )
  await sql`
    create index app_sandboxes_live on app_sandboxes (account_id, created_at, name) where state <> 'ended'`.execute(db)
  await sql`create index app_sandboxes_due on app_sandboxes (look_at) where look_at is not null`.execute(db)

  // Null for images that all accounts share.
  await sql`alter table base_images alter column account_id drop not null`.execute(db)
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await sql`delete from base_images where account_id is null`.execute(db)
  await sql`alter table base_images alter column account_id set not null`.execute(db)
  await db.schema.dropTable("app_sandboxes").execute()
}
