import type { Kysely } from "kysely"

/** Null for events of servers that wrote none. */
export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.alterTable("events").addColumn("code", "text").execute()
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.alterTable("events").dropColumn("code").execute()
}
