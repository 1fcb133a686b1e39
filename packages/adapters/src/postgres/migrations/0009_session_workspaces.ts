import type { Kysely } from "kysely"

/** Null for sessions whose working tree is the home directory. */
export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.alterTable("sessions").addColumn("workspace", "boolean").execute()
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.alterTable("sessions").dropColumn("workspace").execute()
}
