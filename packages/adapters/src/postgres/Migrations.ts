/**
 * Migrates the database. Several servers may do so at once, because the migrator takes a lock. A migration only adds, so that
 * servers of the previous version keep running and can restart. The name of one that breaks them ends in `_breaking`.
 */
import { type Kysely, sql } from "kysely"
import { type Migration, Migrator } from "kysely/migration"
import * as firstTables from "./migrations/0001_first_tables.ts"
import * as memberships from "./migrations/0002_memberships.ts"
import * as environments from "./migrations/0003_environments.ts"
import * as sessions from "./migrations/0004_sessions.ts"
import * as awakeSessions from "./migrations/0005_awake_sessions.ts"
import * as apps from "./migrations/0006_apps.ts"
import * as sessionErrorCodes from "./migrations/0007_session_error_codes.ts"
import * as errorCodes from "./migrations/0008_error_codes.ts"
import * as sessionWorkspaces from "./migrations/0009_session_workspaces.ts"
import * as eventCodes from "./migrations/0010_event_codes.ts"

/** All migrations of this version, in order. */
export const migrations: Readonly<Record<string, Migration>> = {
  "0001_first_tables": firstTables,
  "0002_memberships": memberships,
  "0003_environments": environments,
  "0004_sessions": sessions,
  "0005_awake_sessions": awakeSessions,
  "0006_apps": apps,
  "0007_session_error_codes": sessionErrorCodes,
  "0008_error_codes": errorCodes,
  "0009_session_workspaces": sessionWorkspaces,
  "0010_event_codes": eventCodes
}

const newest = Object.keys(migrations).at(-1)!

/** Matches the name of a migration that servers of earlier versions can't run with. */
export const breaking = /_breaking$/

const table = "castellan_migrations"

/** The migrations of later versions that were applied to a database. */
const laterMigrations = async (db: Kysely<never>): Promise<ReadonlyArray<string>> => {
  const found = await sql<{ readonly name: string | null }>`select to_regclass(${table})::text as name`.execute(db)
  if (found.rows[0]?.name == null) return []
  const { rows } = await sql<{ readonly name: string }>`
    select name from ${sql.table(table)} where name > ${newest} order by name`.execute(db)
  return rows.map(({ name }) => name)
}

const noop: Migration = { up: () => Promise.resolve() }

/** The migrator of a database. It treats the migrations of later versions as applied. */
export const migratorOf = (db: Kysely<never>, later: ReadonlyArray<string> = []): Migrator =>
  new Migrator({
    db,
    provider: {
      getMigrations: () =>
        Promise.resolve({ ...migrations, ...Object.fromEntries(later.map((name) => [name, noop] as const)) })
    },
    migrationTableName: table,
    migrationLockTableName: `${table}_lock`
  })

/** Applies outstanding migrations. Fails if a later version has applied a breaking one. */
export const migrate = async (db: Kysely<never>): Promise<void> => {
  const later = await laterMigrations(db)
  const breakingName = later.find((name) => breaking.test(name))
  if (breakingName !== undefined) {
    throw new Error(
      `a later version migrated it with ${breakingName}, which this version can't use: update this server`
    )
  }
  const { error } = await migratorOf(db, later).migrateToLatest()
  if (error === undefined) return
  // A server of a later version may have migrated it meanwhile.
  if ((await laterMigrations(db)).length > later.length) return await migrate(db)
  throw error
}
