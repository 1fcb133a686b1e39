import type { Kysely } from "kysely"

export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.alterTable("sessions").addColumn("error_code", "text").execute()
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.alterTable("sessions").dropColumn("error_code").execute()
}
