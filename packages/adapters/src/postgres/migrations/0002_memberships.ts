import { type Kysely, sql } from "kysely"

export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema
    .createTable("memberships")
    .addColumn("organization_id", "uuid", (column) => column.notNull().references("accounts.id").onDelete("cascade"))
    // No foreign key, because an invitation to a missing account must look like any other.
    .addColumn("account_id", "uuid", (column) => column.notNull())
    .addColumn("role", "text", (column) => column.notNull())
    .addColumn("status", "text", (column) => column.notNull())
    .addColumn("created_at", "timestamptz", (column) => column.notNull())
    .addPrimaryKeyConstraint("memberships_key", ["organization_id", "account_id"])
    .execute()
  await db.schema.createIndex("memberships_account").on("memberships").columns(["account_id", "created_at"]).execute()
  await db.schema
    .createIndex("memberships_owners")
    .on("memberships")
    .column("organization_id")
    .where(sql.ref("role"), "=", "owner")
    .where(sql.ref("status"), "=", "active")
    .execute()
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.dropTable("memberships").execute()
}
