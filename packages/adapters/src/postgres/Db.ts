/** The database of the stores: Postgres embedded in this process, or a Postgres server. Both run the same statements. */
import { Config, Context, DateTime, Effect, Layer, Option, Redacted, Schema } from "effect"
import { Kysely, type PGlite, PGliteDialect, PostgresDialect } from "kysely"
import { join } from "node:path"
import pg from "pg"
import * as DirectoryLock from "./DirectoryLock.ts"
import { migrate } from "./Migrations.ts"
import { releaseLeases } from "./sql/releaseLeases.ts"
import { unavailableBecauseOf } from "./sql/connectionErrors.ts"
import type { Tables } from "./sql/Tables.ts"
import { importOptional } from "../process/optionalPackage.ts"
import { assertUnchanged } from "../process/PathIdentity.ts"
import { stripNul } from "./sql/stripNul.ts"

/** The database can't be opened or migrated. The message says why and has no password. */
export class DatabaseNotReady extends Schema.TaggedError<DatabaseNotReady>()("DatabaseNotReady", {
  message: Schema.String
}) {}

/** The embedded database, described without the types of `@electric-sql/pglite`, which may not be installed. */
export interface EmbeddedPostgres extends PGlite {
  readonly exec: (sql: string) => Promise<Array<{ rows: Array<any> }>>
}

/** The driver below Kysely, for the task queue, which shares the database. */
export type Engine =
  { readonly _tag: "PGlite"; readonly pglite: EmbeddedPostgres } | { readonly _tag: "Postgres"; readonly pool: pg.Pool }

export class Db extends Context.Service<
  Db,
  {
    readonly kysely: Kysely<Tables>
    readonly engine: Engine
  }
>()("adapters/postgres/Db") {}

/** A statement as the database receives it. */
export interface Statement {
  readonly sql: string
  readonly parameters: ReadonlyArray<unknown>
}

/** Runs a statement. A failure is a defect, because no caller can act on it. */
export const query = <A>(run: () => Promise<A>): Effect.Effect<A> =>
  Effect.catch(Effect.tryPromise(run), (failure) => Effect.die(unavailableBecauseOf(failure.cause) ?? failure))

const migrateAndProvide = Effect.fnUntraced(function* (engine: Engine, kysely: Kysely<Tables>, describe: string) {
  yield* Effect.tryPromise({
    try: () => migrate(kysely as never),
    catch: (cause) => new DatabaseNotReady({ message: `${describe}: ${reasonOf(cause)}` })
  })
  return Db.of({ kysely, engine })
})

const reasonOf = (cause: unknown): string => {
  const { code, message } = cause as { readonly code?: unknown; readonly message?: unknown }
  return [code, message].filter((part) => typeof part === "string" && part !== "").join(" ") || "no reason given"
}

/** Fails statements once the directory was deleted or replaced: what is written to deleted files is lost. */
const failWhenReplaced = (pglite: EmbeddedPostgres, checkDirectory: () => void): EmbeddedPostgres => {
  for (const method of ["query", "exec", "transaction"] as const) {
    const run = pglite[method].bind(pglite) as (...args: ReadonlyArray<unknown>) => Promise<unknown>
    const checked = async (...args: ReadonlyArray<unknown>) => {
      checkDirectory()
      const result = await run(...args)
      checkDirectory()
      return result
    }
    Object.assign(pglite, { [method]: checked })
  }
  return pglite
}

const loadPglite = importOptional(
  "@electric-sql/pglite",
  "use the embedded database, or set DATABASE_URL to a Postgres server",
  () => import("@electric-sql/pglite")
).pipe(Effect.mapError(({ message }) => new DatabaseNotReady({ message })))

/** Locks a directory for this process until the scope closes. */
const lockDirectory = (directory: string, unusable: (cause: unknown) => DatabaseNotReady) =>
  Effect.acquireRelease(
    Effect.tryPromise({ try: () => DirectoryLock.take(directory), catch: unusable }).pipe(
      Effect.filterOrFail(
        (release) => release !== undefined,
        () =>
          new DatabaseNotReady({
            message: `${directory} is in use by another Castellan server: stop that one, or give this one a data directory of its own with CASTELLAN_DATA_DIR, or set DATABASE_URL for several servers`
          })
      )
    ),
    (release) => Effect.sync(release)
  )

/** Postgres embedded in this process. Its files are in a directory that no other process may have open. */
export const layerPglite = (options: { readonly directory: string }): Layer.Layer<Db, DatabaseNotReady> =>
  Layer.effect(
    Db,
    Effect.gen(function* () {
      const { directory } = options
      const unusable = (cause: unknown) =>
        new DatabaseNotReady({ message: `The database in ${directory} can't be opened: ${reasonOf(cause)}` })
      const { PGlite } = yield* loadPglite
      yield* lockDirectory(directory, unusable)
      const pglite = yield* Effect.acquireRelease(
        Effect.tryPromise({
          try: async () => {
            const checkDirectory = assertUnchanged(DirectoryLock.fileIn(directory))
            return failWhenReplaced(await PGlite.create(directory), checkDirectory)
          },
          catch: unusable
        }),
        (pglite) => Effect.ignore(Effect.tryPromise(() => pglite.close()))
      )
      const kysely = new Kysely<Tables>({ dialect: new PGliteDialect({ pglite }), plugins: [stripNul] })
      const engine: Engine = { _tag: "PGlite", pglite }
      const db = yield* migrateAndProvide(engine, kysely, `The database in ${directory} can't be migrated`)
      const now = yield* DateTime.now
      yield* Effect.tryPromise({ try: () => releaseLeases(kysely, DateTime.toDateUtc(now)), catch: unusable })
      return db
    })
  )

const parse = (url: string) =>
  Effect.try({
    try: () => {
      const { protocol } = new URL(url)
      if (protocol !== "postgres:" && protocol !== "postgresql:") throw new Error("another scheme")
      return url
    },
    catch: () => new DatabaseNotReady({ message: "DATABASE_URL must be postgres://user:password@host:port/database" })
  })

/** Milliseconds that a statement may take, and that a transaction may be idle: far more than Castellan's statements need. */
const statementTimeout = 60_000
const idleTransactionTimeout = 60_000

const setTimeouts = `set statement_timeout = ${statementTimeout}; set idle_in_transaction_session_timeout = ${idleTransactionTimeout}`

/** A pool of connections that survives broken ones. */
const makePool = (connectionString: string, connections: number) => {
  const config = {
    connectionString,
    max: connections,
    connectionTimeoutMillis: 5000,
    // Set after connecting: a connection pooler in between may refuse unknown startup parameters.
    onConnect: (client: pg.ClientBase) => client.query(setTimeouts)
  }
  const pool = new pg.Pool(config)
  // An idle connection that breaks is replaced at the next use. One that breaks in use fails its statement. Both also emit
  // an event, which would end the process if nobody listened.
  pool.on("error", () => undefined)
  pool.on("connect", (client) => client.on("error", () => undefined))
  return pool
}

/** A Postgres server, which any number of Castellan servers may share. */
export const layerPostgres = (options: {
  readonly url: Redacted.Redacted<string>
  /** The most connections; 10 by default. */
  readonly connections?: number
  /** Called with every statement and its parameters. */
  readonly onStatement?: (statement: Statement) => void
}): Layer.Layer<Db, DatabaseNotReady> =>
  Layer.effect(
    Db,
    Effect.gen(function* () {
      const connectionString = yield* parse(Redacted.value(options.url))
      const pool = yield* Effect.acquireRelease(
        Effect.sync(() => makePool(connectionString, options.connections ?? 10)),
        (pool) => Effect.ignore(Effect.tryPromise(() => pool.end()))
      )
      const kysely = new Kysely<Tables>({
        dialect: new PostgresDialect({ pool }),
        plugins: [stripNul],
        log: ({ query }) => options.onStatement?.(query)
      })
      return yield* migrateAndProvide(
        { _tag: "Postgres", pool },
        kysely,
        "DATABASE_URL names a database that can't be used"
      )
    })
  )

/** The range of DATABASE_CONNECTIONS. The preparation of the queue needs two: one of them waits for a lock. */
const minConnections = 2
const maxConnections = 500

const connections = Effect.gen(function* () {
  const given = Option.getOrElse(yield* Config.option(Config.String("DATABASE_CONNECTIONS")), () => "").trim()
  if (given === "") return {}
  const number = /^\d+$/.test(given) ? Number(given) : 0
  if (number >= minConnections && number <= maxConnections) return { connections: number }
  const range = `from ${minConnections} to ${maxConnections}`
  const message = `DATABASE_CONNECTIONS is "${given}"; it must be a whole number ${range}`
  return yield* new DatabaseNotReady({ message })
})

/** The Postgres server that DATABASE_URL names, or else the embedded database in the data directory. */
export const layerConfig = (options: { readonly dataDirectory: string }) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const url = yield* Config.option(Config.Redacted("DATABASE_URL"))
      const limits = yield* connections
      return Option.isSome(url) && Redacted.value(url.value) !== ""
        ? layerPostgres({ url: url.value, ...limits })
        : layerPglite({ directory: join(options.dataDirectory, "postgres") })
    }).pipe(Effect.catchTag("ConfigError", () => new DatabaseNotReady({ message: "DATABASE_URL can't be read" })))
  )
