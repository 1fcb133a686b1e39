/** The database: Postgres inside this process, or a Postgres server. The statements are the same. */
import { PGlite } from "@electric-sql/pglite"
import { Config, Context, DateTime, Effect, Layer, Option, Redacted, Schema } from "effect"
import { Kysely, PGliteDialect, PostgresDialect } from "kysely"
import { join } from "node:path"
import pg from "pg"
import * as DirectoryLock from "./DirectoryLock.ts"
import { migrate } from "./Migrations.ts"
import { releaseLeases } from "./sql/releaseLeases.ts"
import { unavailableBecauseOf } from "./sql/connectionErrors.ts"
import type { Tables } from "./sql/Tables.ts"
import { assertUnchanged } from "../process/PathIdentity.ts"
import { stripNul } from "./sql/stripNul.ts"

/** The database can't be opened or migrated. The message says why and has no password. */
export class DatabaseNotReady extends Schema.TaggedError<DatabaseNotReady>()("DatabaseNotReady", {
  message: Schema.String
}) {}

/** What is behind the statements, for the queue that shares the database. */
export type Engine =
  { readonly _tag: "PGlite"; readonly pglite: PGlite } | { readonly _tag: "Postgres"; readonly pool: pg.Pool }

export class Db extends Context.Service<
  Db,
  {
    readonly kysely: Kysely<Tables>
    readonly engine: Engine
  }
>()("adapters/postgres/Db") {}

/** A statement as the database gets it. */
export interface Statement {
  readonly sql: string
  readonly parameters: ReadonlyArray<unknown>
}

/** Runs a statement. A failure is a defect, because no caller can act on it. */
export const query = <A>(run: () => Promise<A>): Effect.Effect<A> =>
  Effect.catch(Effect.tryPromise(run), (failure) => Effect.die(unavailableBecauseOf(failure.cause) ?? failure))

const migrated = Effect.fnUntraced(function* (engine: Engine, kysely: Kysely<Tables>, describe: string) {
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

/**
 * Refuses statements once the directory is lost: files that are removed while they are open take what is written, and are
 * gone with this process.
 */
const guarded = (pglite: PGlite, stillThere: () => void): PGlite => {
  for (const method of ["query", "exec", "transaction"] as const) {
    const real = pglite[method].bind(pglite) as (...args: ReadonlyArray<unknown>) => Promise<unknown>
    const checked = async (...args: ReadonlyArray<unknown>) => {
      stillThere()
      const answer = await real(...args)
      stillThere()
      return answer
    }
    Object.assign(pglite, { [method]: checked })
  }
  return pglite
}

/** Postgres in this process, in a directory of its own, which no other process may have open. */
export const layerPglite = (options: { readonly directory: string }): Layer.Layer<Db, DatabaseNotReady> =>
  Layer.effect(
    Db,
    Effect.gen(function* () {
      const unusable = (cause: unknown) =>
        new DatabaseNotReady({ message: `The database in ${options.directory} can't be opened: ${reasonOf(cause)}` })
      yield* Effect.acquireRelease(
        Effect.tryPromise({ try: () => DirectoryLock.take(options.directory), catch: unusable }).pipe(
          Effect.flatMap((release) =>
            release === undefined
              ? Effect.fail(
                  new DatabaseNotReady({
                    message: `${options.directory} is in use by another Castellan server: stop that one, or give this one a data directory of its own with CASTELLAN_DATA_DIR, or set DATABASE_URL for several servers`
                  })
                )
              : Effect.succeed(release)
          )
        ),
        (release) => Effect.sync(release)
      )
      const pglite = yield* Effect.acquireRelease(
        Effect.tryPromise({
          try: async () => {
            const stillThere = assertUnchanged(DirectoryLock.fileIn(options.directory))
            return guarded(await PGlite.create(options.directory), stillThere)
          },
          catch: unusable
        }),
        (pglite) => Effect.ignore(Effect.tryPromise(() => pglite.close()))
      )
      const kysely = new Kysely<Tables>({ dialect: new PGliteDialect({ pglite }), plugins: [stripNul] })
      const db = yield* migrated(
        { _tag: "PGlite", pglite },
        kysely,
        `The database in ${options.directory} can't be migrated`
      )
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

/** Milliseconds that a statement may take, and a transaction may be left alone: far more than any of ours needs. */
const statementTime = 60_000
const idleTransactionTime = 60_000

const times = [`statement_timeout = ${statementTime}`, `idle_in_transaction_session_timeout = ${idleTransactionTime}`]

/** A Postgres server, shared by as many servers of ours as like to. */
export const layerPostgres = (options: {
  readonly url: Redacted.Redacted<string>
  /** Connections at most. */
  readonly connections?: number
  /** Told of every statement, with its parameters. */
  readonly onStatement?: (statement: Statement) => void
}): Layer.Layer<Db, DatabaseNotReady> =>
  Layer.effect(
    Db,
    Effect.gen(function* () {
      const connectionString = yield* parse(Redacted.value(options.url))
      const pool = yield* Effect.acquireRelease(
        Effect.sync(() => {
          const config = {
            connectionString,
            max: options.connections ?? 10,
            connectionTimeoutMillis: 5000,
            // Set once it is there, and not asked for with the connection: what stands between may not know of it.
            onConnect: (client: pg.ClientBase) => client.query(times.map((time) => `set ${time}`).join("; "))
          }
          const pool = new pg.Pool(config)
          // A connection that breaks while nobody uses it is replaced at the next use. One that breaks while it is used
          // fails what it is used for, and tells it by an event besides, which nobody else listens for.
          pool.on("error", () => undefined)
          pool.on("connect", (client) => client.on("error", () => undefined))
          return pool
        }),
        (pool) => Effect.ignore(Effect.tryPromise(() => pool.end()))
      )
      const kysely = new Kysely<Tables>({
        dialect: new PostgresDialect({ pool }),
        plugins: [stripNul],
        log: ({ query }) => options.onStatement?.(query)
      })
      return yield* migrated({ _tag: "Postgres", pool }, kysely, "DATABASE_URL names a database that can't be used")
    })
  )

/** Connections that can be asked for: one waits for a lock while another prepares the queue; servers share what there is. */
const connectionsAtLeast = 2
const connectionsAtMost = 500

const connections = Effect.gen(function* () {
  const given = Option.getOrElse(yield* Config.option(Config.String("DATABASE_CONNECTIONS")), () => "").trim()
  if (given === "") return {}
  const number = /^\d+$/.test(given) ? Number(given) : 0
  if (number >= connectionsAtLeast && number <= connectionsAtMost) return { connections: number }
  const range = `from ${connectionsAtLeast} to ${connectionsAtMost}`
  const message = `DATABASE_CONNECTIONS is "${given}"; it must be a whole number ${range}`
  return yield* new DatabaseNotReady({ message })
})

/** As the environment says: the server that DATABASE_URL names, or else a directory of its own in the data directory. */
export const layerConfig = (options: { readonly dataDirectory: string }) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const url = yield* Config.option(Config.Redacted("DATABASE_URL"))
      const atMost = yield* connections
      return Option.isSome(url) && Redacted.value(url.value) !== ""
        ? layerPostgres({ url: url.value, ...atMost })
        : layerPglite({ directory: join(options.dataDirectory, "postgres") })
    }).pipe(Effect.catchTag("ConfigError", () => new DatabaseNotReady({ message: "DATABASE_URL can't be read" })))
  )
