import * as Db from "../../src/postgres/Db.ts"
import * as Stores from "../../src/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { RunId, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import * as given from "@castellan/testkit/given.ts"
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Effect, Layer, Redacted } from "effect"
import { sql } from "kysely"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { fileURLToPath } from "node:url"
import * as databases from "../postgres/databases.ts"

const runOf = (scope: AccountScope) => given.run(scope, { task: "setup-sandbox" })

/** A server on the database of that URL. */
const server = (url: string, breaking: (db: Db.Db["Service"]) => Db.Db["Service"] = (db) => db) =>
  Layer.build(
    Layer.fresh(
      Layer.merge(Stores.layer, PgBossTaskRunner.layer).pipe(
        Layer.provideMerge(
          Layer.effect(Db.Db, Effect.map(Db.Db, breaking)).pipe(
            Layer.provide(Layer.fresh(Db.layerPostgres({ url: Redacted.make(url), connections: 4 })))
          )
        )
      )
    )
  )

const statement = (text: string) => Effect.flatMap(Db.Db, ({ kysely }) => Db.query(() => sql.raw(text).execute(kysely)))

const ticketStates = Effect.map(statement("select state::text from castellan_tasks.job"), ({ rows }) =>
  rows.map((row) => (row as { readonly state: string }).state)
)

const enqueue = (run: TaskRun) => Effect.flatMap(TaskRunner, (runner) => runner.enqueue(run))

describe.concurrent("A worker", () => {
  it.live("leaves its run to another worker when it is killed", () =>
    Effect.gen(function* () {
      const url = yield* databases.postgresUrl
      const ports = yield* server(url)
      yield* Effect.gen(function* () {
        const run = runOf(yield* given.scope)
        yield* enqueue(run)
        const child = spawn(process.execPath, [fileURLToPath(new URL("./worker.ts", import.meta.url))], {
          env: { ...process.env, DATABASE_URL: url },
          stdio: ["ignore", "pipe", "inherit"]
        })
        const exited = once(child, "exit")
        yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
        const [line] = yield* Effect.promise(() => once(child.stdout, "data"))
        assert.strictEqual(String(line).trim(), run.id)
        child.kill("SIGKILL")
        yield* Effect.promise(() => exited)
        // As if the heartbeat timeout had passed.
        yield* statement("update castellan_tasks.job set heartbeat_on = now() - interval '30 seconds'")
        const taken = yield* Deferred.make<RunId>()
        const runner = yield* TaskRunner
        yield* runner.process("setup-sandbox", { concurrency: 1 }, ({ id }) =>
          Effect.asVoid(Deferred.succeed(taken, id))
        )
        assert.strictEqual(yield* Deferred.await(taken), run.id)
      }).pipe(Effect.scoped, Effect.provide(ports))
    }).pipe(Effect.scoped)
  )

  it.live("interrupts a run that another worker has claimed", () =>
    Effect.gen(function* () {
      const url = yield* databases.postgresUrl
      const [one, two] = [yield* server(url), yield* server(url)]
      const run = runOf(yield* Effect.provide(given.scope, one))
      const [begun, brokenOff, taken] = [
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>(),
        yield* Deferred.make<void>()
      ]
      const stuck = () =>
        Effect.andThen(Deferred.succeed(begun, undefined), Effect.never).pipe(
          Effect.onInterrupt(() => Deferred.succeed(brokenOff, undefined))
        )
      const working = (work: () => Effect.Effect<void>) =>
        Effect.flatMap(TaskRunner, (runner) => runner.process("setup-sandbox", { concurrency: 1 }, work))
      yield* Effect.provide(enqueue(run), one)
      yield* Effect.provide(working(stuck), one)
      yield* Deferred.await(begun)
      // What the queue does with a run without heartbeats.
      yield* statement("update castellan_tasks.job set state = 'retry', heartbeat_on = null").pipe(Effect.provide(one))
      const hold = () => Effect.andThen(Deferred.succeed(taken, undefined), Effect.never)
      yield* Effect.provide(working(hold), two)
      yield* Deferred.await(taken)
      yield* Deferred.await(brokenOff)
      assert.deepStrictEqual(yield* Effect.provide(ticketStates, one), ["active"])
    }).pipe(Effect.scoped)
  )

  it.live("returns a run that it claims while it stops", () =>
    Effect.gen(function* () {
      const ports = yield* server(yield* databases.postgresUrl)
      yield* Effect.gen(function* () {
        const scope = yield* given.scope
        const runner = yield* TaskRunner
        for (let i = 0; i < 20; i++) {
          yield* runner.enqueue(runOf(scope))
          const come = runner.process("setup-sandbox", { concurrency: 50 }, () => Effect.never)
          yield* Effect.scoped(Effect.andThen(come, Effect.sleep(i % 5)))
        }
        assert.notInclude(yield* ticketStates, "active")
      }).pipe(Effect.provide(ports))
    }).pipe(Effect.scoped)
  )

  it.live("reports a finished run as soon as the database works again", () =>
    Effect.gen(function* () {
      let failures = 0
      const failingOnce = (db: Db.Db["Service"]): Db.Db["Service"] => {
        if (db.engine._tag !== "Postgres") return db
        const { pool } = db.engine
        const query = async (text: string, values?: Array<unknown>) => {
          if (text.includes("completed_on =") && failures++ === 0) throw new Error("the connection broke, on purpose")
          return pool.query(text, values)
        }
        return {
          ...db,
          engine: { _tag: "Postgres", pool: { query, connect: () => pool.connect() } as unknown as typeof pool }
        }
      }
      const ports = yield* server(yield* databases.postgresUrl, failingOnce)
      yield* Effect.gen(function* () {
        yield* enqueue(runOf(yield* given.scope))
        const runner = yield* TaskRunner
        let delivered = 0
        yield* runner.process("setup-sandbox", { concurrency: 1 }, () => Effect.sync(() => void delivered++))
        yield* Effect.repeat(ticketStates, { until: ([state]) => state === "completed" })
        assert.deepStrictEqual([delivered, failures], [1, 2])
      }).pipe(Effect.scoped, Effect.provide(ports))
    }).pipe(Effect.scoped)
  )
})
