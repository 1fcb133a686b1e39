import type { Kysely } from "kysely"

export const up = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.alterTable("task_runs").addColumn("error_code", "text").execute()
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.alterTable("task_runs").dropColumn("error_code").execute()
}
