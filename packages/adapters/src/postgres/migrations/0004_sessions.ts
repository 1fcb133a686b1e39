import { type Kysely, sql } from "kysely"

export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema
    .createTable("sessions")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("title", "text", (column) => column.notNull())
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("organization_id", "uuid")
    .addColumn("repo", "text")
    .addColumn("ephemeral", "boolean", (column) => column.notNull())
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addColumn("updated_at", "timestamptz", (column) => column.notNull())
    .addColumn("state", "text")
    .addColumn("version", "integer", (column) => column.notNull())
    .addColumn("sandbox", "text")
    .addColumn("incarnation", "text")
    .addColumn("last_activity_at", "timestamptz")
    .addColumn("hibernate_after", "timestamptz")
    .addColumn("sandbox_expires_at", "timestamptz")
    .addColumn("look_at", "timestamptz")
    .addColumn("fresh", "boolean", (column) => column.notNull())
    .addColumn("branch", "text")
    .addColumn("attempt", "integer", (column) => column.notNull())
    .addColumn("error", "text")
    .execute()
  await db.schema
    .createIndex("sessions_newest")
    .on("sessions")
    .columns(["account_id", "created_at desc", "id desc"])
    .where(sql.ref("ephemeral"), "=", false)
    .execute()
  await db.schema
    .createIndex("sessions_due")
    .on("sessions")
    .column("look_at")
    .where(sql.ref("look_at"), "is not", null)
    .execute()

  await db.schema
    .createTable("events")
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("place", "bigint", (column) => column.notNull().generatedAlwaysAsIdentity())
    .addColumn("type", "text", (column) => column.notNull())
    .addColumn("sandbox", "text")
    .addColumn("session", "text")
    .addColumn("reason", "text")
    .addColumn("at", "timestamptz", (column) => column.notNull())
    .addPrimaryKeyConstraint("events_key", ["account_id", "place"])
    .execute()
  await db.schema.createIndex("events_age").on("events").column("at").execute()

  await db.schema
    .createTable("base_images")
    .addColumn("key", "text", (column) => column.primaryKey())
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("current", "text")
    .addColumn("built_at", "timestamptz")
    .addColumn("builder", "text")
    .addColumn("builder_until", "timestamptz")
    .addColumn("failures", "integer", (column) => column.notNull())
    .addColumn("retry_after", "timestamptz")
    .addColumn("error", "text")
    .addColumn("replaced", sql`text[]`, (column) => column.notNull())
    .addColumn("used_at", "timestamptz", (column) => column.notNull())
    .execute()
  await sql`
    create index base_images_replaced on base_images (used_at, key) where cardinality(replaced) > 0`.execute(db)
  await sql`create index base_images_built on base_images (builder_until) where builder is not null`.execute(db)
  await sql`create index base_images_used on base_images (used_at, key) where current is not null`.execute(db)

  await db.schema.alterTable("task_runs").addColumn("sandbox", "text").execute()
  await db.schema
    .createIndex("task_runs_live")
    .on("task_runs")
    .column("sandbox")
    .where(sql.ref("sandbox"), "is not", null)
    .where(sql.ref("finished_at"), "is", null)
    .execute()
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.dropIndex("task_runs_live").execute()
  await db.schema.alterTable("task_runs").dropColumn("sandbox").execute()
  for (const table of ["base_images", "events", "sessions"]) await db.schema.dropTable(table).execute()
}
