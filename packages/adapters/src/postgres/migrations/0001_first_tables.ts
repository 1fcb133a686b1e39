import { type Kysely, sql } from "kysely"

export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema
    .createTable("accounts")
    .addColumn("id", "uuid", (column) => column.primaryKey())
    .addColumn("name", "text")
    .addColumn("email", "text")
    .addColumn("platform_admin", "boolean", (column) => column.notNull())
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .execute()
  await db.schema
    .createIndex("accounts_platform_admin")
    .on("accounts")
    .column("created_at")
    .where(sql.ref("platform_admin"), "=", true)
    .execute()

  await db.schema
    .createTable("api_keys")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("name", "text", (column) => column.notNull())
    .addColumn("digest", "text", (column) => column.notNull().unique())
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addColumn("last_used_at", "timestamptz")
    .addColumn("expires_at", "timestamptz")
    .execute()
  await db.schema.createIndex("api_keys_account").on("api_keys").columns(["account_id", "created_at desc"]).execute()

  await db.schema
    .createTable("idempotent_requests")
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("key", "text", (column) => column.notNull())
    .addColumn("request", "text", (column) => column.notNull())
    .addColumn("nonce", "text", (column) => column.notNull())
    .addColumn("asked_at", "timestamptz", (column) => column.notNull())
    .addColumn("begun_at", "timestamptz", (column) => column.notNull())
    .addColumn("answer_status", "integer")
    .addColumn("answer_body", "text")
    .addPrimaryKeyConstraint("idempotent_requests_key", ["account_id", "key"])
    .execute()
  await db.schema.createIndex("idempotent_requests_age").on("idempotent_requests").column("asked_at").execute()

  await db.schema
    .createTable("account_sandboxes")
    .addColumn("name", "text", (column) => column.primaryKey())
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("reason", "text")
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addColumn("expires_at", "timestamptz")
    .execute()
  await db.schema
    .createIndex("account_sandboxes_newest")
    .on("account_sandboxes")
    .columns(["account_id", "created_at desc", "name desc"])
    .execute()
  await db.schema
    .createIndex("account_sandboxes_unfinished")
    .on("account_sandboxes")
    .column("created_at")
    .where(sql.ref("status"), "=", "pending")
    .execute()

  await db.schema
    .createTable("task_runs")
    .addColumn("id", "text", (column) => column.primaryKey())
    .addColumn("account_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    .addColumn("task", "text", (column) => column.notNull())
    .addColumn("input", "text", (column) => column.notNull())
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("attempt", "integer", (column) => column.notNull())
    .addColumn("current_step", "text")
    .addColumn("logs", "text", (column) => column.notNull())
    .addColumn("output", "text")
    .addColumn("error", "text")
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addColumn("updated_at", "timestamptz", (column) => column.notNull())
    .addColumn("started_at", "timestamptz")
    .addColumn("finished_at", "timestamptz")
    .addColumn("version", "integer", (column) => column.notNull())
    .execute()
  await db.schema
    .createIndex("task_runs_newest")
    .on("task_runs")
    .columns(["account_id", "created_at desc", "id desc"])
    .execute()
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  for (const table of ["task_runs", "account_sandboxes", "idempotent_requests", "api_keys", "accounts"]) {
    await db.schema.dropTable(table).execute()
  }
}
