import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { describe, it } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import * as databases from "../postgres/databases.ts"

describe("The queue of a new database", () => {
  it.live("can be created by several servers at once", () =>
    Effect.gen(function* () {
      for (let round = 0; round < 5; round++) {
        const url = Redacted.make(yield* databases.postgresUrl)
        const server = Effect.scoped(
          Layer.build(PgBossTaskRunner.layer.pipe(Layer.provide(Db.layerPostgres({ url, connections: 2 }))))
        )
        yield* Effect.all([server, server, server, server], { concurrency: "unbounded" })
      }
    }).pipe(Effect.scoped)
  )
})
