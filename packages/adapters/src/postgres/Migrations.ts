/** Brings a database's tables up to date. Several servers may do it at once: the migrator takes a lock. */
import type { Kysely } from "kysely"
import { type Migration, Migrator } from "kysely/migration"
import * as firstTables from "./migrations/0001_first_tables.ts"
import * as memberships from "./migrations/0002_memberships.ts"
import * as environments from "./migrations/0003_environments.ts"
import * as sessions from "./migrations/0004_sessions.ts"
import * as awakeSessions from "./migrations/0005_awake_sessions.ts"
import * as apps from "./migrations/0006_apps.ts"

const migrations: Record<string, Migration> = {
  "0001_first_tables": firstTables,
  "0002_memberships": memberships,
  "0003_environments": environments,
  "0004_sessions": sessions,
  "0005_awake_sessions": awakeSessions,
  "0006_apps": apps
}

export const migrate = async (db: Kysely<never>): Promise<void> => {
  const migrator = new Migrator({
    db,
    provider: { getMigrations: () => Promise.resolve(migrations) },
    migrationTableName: "castellan_migrations",
    migrationLockTableName: "castellan_migrations_lock"
  })
  const { error } = await migrator.migrateToLatest()
  if (error !== undefined) throw error
}
