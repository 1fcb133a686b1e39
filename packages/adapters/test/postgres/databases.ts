/** Databases for tests, each new and gone afterwards. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import { Effect, Layer, ManagedRuntime, Redacted } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import pg from "pg"
import { afterAll, inject } from "vitest"

export const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-db-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

export const pglite = Layer.unwrap(
  Effect.map(temporaryDirectory, (directory) => Db.layerPglite({ directory: join(directory, "data") }))
)

/** Runs a statement on the tests' server, connected to that database. */
const runOn = (database: string, statement: string) =>
  Effect.promise(async () => {
    const client = new pg.Client({ connectionString: `${inject("postgresUrl")}/${database}` })
    await client.connect()
    try {
      await client.query(statement)
    } finally {
      await client.end()
    }
  })

let databases = 0

/** The URL of a new database on the tests' server, made by `run` from a template. */
const databaseFrom = (template: string, run: (statement: string) => Effect.Effect<void>) =>
  Effect.acquireRelease(
    Effect.gen(function* () {
      const name = `test_${process.pid}_${databases++}`
      yield* run(`create database ${name} template ${template}`)
      return { name, url: `${inject("postgresUrl")}/${name}` }
    }),
    ({ name }) => run(`drop database ${name} with (force)`)
  ).pipe(Effect.map(({ url }) => url))

export const postgresUrl = databaseFrom("template1", (statement) => runOn("postgres", statement))

/** The same, where the setup of the tests has migrated the database `postgres`. A template may have no connections. */
export const migratedUrl = databaseFrom("postgres", (statement) => runOn("template1", statement))

export const postgres = Layer.unwrap(Effect.map(postgresUrl, (url) => Db.layerPostgres({ url: Redacted.make(url) })))

/** The layer, built once for all tests of a file: to start a database takes longer than most of them. */
export const shared = <A, E>(layer: Layer.Layer<A, E>): Layer.Layer<A, E> => {
  const runtime = ManagedRuntime.make(layer)
  afterAll(() => runtime.dispose())
  return Layer.effectContext(runtime.contextEffect)
}
