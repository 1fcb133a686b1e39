/**
 * Brings a database's tables up to date. Several servers may do it at once: the migrator takes a lock. A migration only
 * adds, so that servers of the version before go on beside those of the new one, and start again; one that they can't
 * live with says so by the end of its name.
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

/** What every server of this version knows, in their order. */
export const migrations: Readonly<Record<string, Migration>> = {
  "0001_first_tables": firstTables,
  "0002_memberships": memberships,
  "0003_environments": environments,
  "0004_sessions": sessions,
  "0005_awake_sessions": awakeSessions,
  "0006_apps": apps,
  "0007_session_error_codes": sessionErrorCodes,
  "0008_error_codes": errorCodes,
  "0009_session_workspaces": sessionWorkspaces
}

const newest = Object.keys(migrations).at(-1)!

/** How a migration is named beside which servers from before can't go on. */
export const breaking = /_breaking$/

const table = "castellan_migrations"

/** The migrations of later versions that a database has had. */
const laterOnes = async (db: Kysely<never>): Promise<ReadonlyArray<string>> => {
  const found = await sql<{ readonly name: string | null }>`select to_regclass(${table})::text as name`.execute(db)
  if (found.rows[0]?.name == null) return []
  const { rows } = await sql<{ readonly name: string }>`
    select name from ${sql.table(table)} where name > ${newest} order by name`.execute(db)
  return rows.map(({ name }) => name)
}

const done: Migration = { up: () => Promise.resolve() }

/** The migrator of a database, for which the migrations of later versions are done. */
export const migratorOf = (db: Kysely<never>, later: ReadonlyArray<string> = []): Migrator =>
  new Migrator({
    db,
    provider: {
      getMigrations: () =>
        Promise.resolve({ ...migrations, ...Object.fromEntries(later.map((name) => [name, done] as const)) })
    },
    migrationTableName: table,
    migrationLockTableName: `${table}_lock`
  })

/** Does what is still to be done, unless a later version has done what this one can't live with. */
export const migrate = async (db: Kysely<never>): Promise<void> => {
  const later = await laterOnes(db)
  const between = later.find((name) => breaking.test(name))
  if (between !== undefined) throw new Error(`it is a later version's: ${between} leaves this one behind`)
  const { error } = await migratorOf(db, later).migrateToLatest()
  if (error === undefined) return
  // A server of a later version may have been faster.
  if ((await laterOnes(db)).length > later.length) return await migrate(db)
  throw error
}
