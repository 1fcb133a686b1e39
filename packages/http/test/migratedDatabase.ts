/** Makes databases with all migrations applied, once for all tests: to migrate takes a server's process some seconds. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { Effect, Layer, Redacted } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"
import * as EmbeddedPostgres from "../../adapters/test/embeddedPostgres.ts"

declare module "vitest" {
  interface ProvidedContext {
    /** Directory of an embedded database that no process has open, to be copied. */
    migratedDirectory: string
    /** URL of a Postgres server whose database `postgres` is migrated and has no connections, to be a template. */
    postgresUrl: string
  }
}

const migrated = (database: Layer.Layer<Db.Db, unknown>) =>
  Effect.runPromise(
    Effect.scoped(Layer.build(Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(Layer.provide(database))))
  )

export const setup = async (project: TestProject) => {
  const parent = await mkdtemp(join(tmpdir(), "castellan-migrated-"))
  const directory = join(parent, "postgres")
  const server = await EmbeddedPostgres.start({ isDurable: false })
  await migrated(Db.layerPglite({ directory }))
  await migrated(Db.layerPostgres({ url: Redacted.make(`${server.url}/postgres`) }))
  project.provide("migratedDirectory", directory)
  project.provide("postgresUrl", server.url)
  return async () => {
    await server.stop()
    await rm(parent, { recursive: true, force: true })
  }
}
