/** A process that claims runs of one task, prints their ids and never finishes them. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { Effect, Layer } from "effect"

const work = Effect.gen(function* () {
  const runner = yield* TaskRunner
  yield* runner.process("setup-sandbox", { concurrency: 1 }, ({ id }) =>
    Effect.andThen(
      Effect.sync(() => console.log(id)),
      Effect.never
    )
  )
  return yield* Effect.never
})

const layer = PgBossTaskRunner.layer.pipe(Layer.provide(Db.layerConfig({ dataDirectory: "not used" })))

await Effect.runPromise(Effect.scoped(work).pipe(Effect.provide(layer)))
