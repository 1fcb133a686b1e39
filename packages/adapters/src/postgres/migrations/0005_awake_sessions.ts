import { type Kysely, sql } from "kysely"

export const up = async (db: Kysely<unknown>): Promise<void> => {
  await sql`
    create index sessions_awake on sessions (account_id)
    where state in ('provisioning', 'active', 'restoring', 'hibernating')`.execute(db)
}

export const down = async (db: Kysely<unknown>): Promise<void> => {
  await db.schema.dropIndex("sessions_awake").execute()
}
