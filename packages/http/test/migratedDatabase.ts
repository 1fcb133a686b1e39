/** An embedded database that is up to date, made once for all tests: to make one takes a server's process some seconds. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { Effect, Layer } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import type { TestProject } from "vitest/node"

declare module "vitest" {
  interface ProvidedContext {
    /** A directory of an embedded database that nobody has open, to be copied. */
    migratedDatabase: string
  }
}

export const setup = async (project: TestProject) => {
  const parent = await mkdtemp(join(tmpdir(), "castellan-migrated-"))
  const directory = join(parent, "postgres")
  const database = Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(Layer.provide(Db.layerPglite({ directory })))
  await Effect.runPromise(Effect.scoped(Layer.build(database)))
  project.provide("migratedDatabase", directory)
  return () => rm(parent, { recursive: true, force: true })
}
