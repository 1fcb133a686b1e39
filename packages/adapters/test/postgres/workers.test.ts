import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { RunId } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import * as given from "@castellan/testkit/given.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Queue, Redacted } from "effect"
import * as databases from "./databases.ts"

const runOf = (scope: AccountScope) => given.run(scope, { task: "setup-sandbox" })

describe("Servers that share a Postgres database", () => {
  it.live("share its runs, and never execute a run twice", () =>
    Effect.gen(function* () {
      const url = Redacted.make(yield* databases.postgresUrl)
      const done = yield* Queue.unbounded<readonly [server: number, run: RunId]>()
      const server = (number: number) =>
        Effect.flatMap(TaskRunner, (runner) =>
          runner.process("setup-sandbox", { concurrency: 3 }, ({ id }) =>
            Effect.andThen(Effect.sleep(3), Effect.asVoid(Queue.offer(done, [number, id] as const)))
          )
        )
      // Each has connections and a queue of its own, as two processes would.
      const ports = () =>
        Layer.fresh(
          Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
            Layer.provide(Layer.fresh(Db.layerPostgres({ url, connections: 4 })))
          )
        )
      const [one, two] = [yield* Layer.build(ports()), yield* Layer.build(ports())]
      const scope = yield* given.scope.pipe(Effect.provide(one))
      const runs = Array.from({ length: 100 }, () => runOf(scope))
      yield* Effect.forEach(runs, (run) => Effect.flatMap(TaskRunner, (runner) => runner.enqueue(run)), {
        concurrency: 8
      }).pipe(Effect.provide(one))
      yield* Effect.provide(server(1), one)
      yield* Effect.provide(server(2), two)
      const seen: Array<readonly [number, RunId]> = []
      for (const _ of runs) seen.push(yield* Queue.take(done))
      assert.deepStrictEqual(seen.map(([, id]) => id).toSorted(), runs.map(({ id }) => id).toSorted())
      assert.strictEqual(new Set(seen.map(([number]) => number)).size, 2)
    }).pipe(Effect.scoped)
  )
})
