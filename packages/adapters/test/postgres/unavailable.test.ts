import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as Db from "@castellan/adapters/postgres/Db.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { DatabaseUnavailable } from "@castellan/domain/DatabaseUnavailable.ts"
import * as given from "@castellan/testkit/given.ts"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Option, Redacted } from "effect"
import { sql } from "kysely"
import { wayTo } from "../breakableConnections.ts"
import * as EmbeddedPostgres from "../embeddedPostgres.ts"
import * as databases from "./databases.ts"

const server = Effect.acquireRelease(
  Effect.promise(() => EmbeddedPostgres.start()),
  ({ stop }) => Effect.promise(stop)
)

const isUnavailable = (exit: Exit.Exit<unknown, unknown>) =>
  Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof DatabaseUnavailable

describe("A database", () => {
  it.live("is unavailable while its server is paused, and is used again afterwards", () =>
    Effect.gen(function* () {
      const { pause, resume, url } = yield* server
      const layer = Stores.layer.pipe(
        Layer.provide(Db.layerPostgres({ url: Redacted.make(`${url}/postgres`), connections: 4 }))
      )
      yield* Effect.gen(function* () {
        const store = yield* IdentityStore
        const account = yield* given.account()
        const look = Effect.exit(store.findAccount(account.id))
        const many = Effect.all(
          Array.from({ length: 12 }, () => look),
          { concurrency: "unbounded" }
        )
        assert.isTrue((yield* many).every(Exit.isSuccess))
        yield* Effect.promise(pause)
        for (const exit of yield* many) assert.isTrue(isUnavailable(exit), String(exit))
        yield* Effect.promise(resume)
        assert.deepStrictEqual(yield* look, Exit.succeed(Option.some(account)))
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.scoped)
  )

  it.live("loses one statement for each broken connection, and opens new connections", () =>
    Effect.gen(function* () {
      const direct = new URL(yield* databases.postgresUrl)
      const { cut, port } = yield* wayTo(Number(direct.port))
      direct.port = String(port)
      yield* Effect.gen(function* () {
        const { kysely } = yield* Db.Db
        const asked = (statement: string) => Effect.exit(Db.query(() => sql.raw(statement).execute(kysely)))
        const waiting = yield* Effect.forkChild(asked("select pg_sleep(30)"))
        yield* Effect.sleep("200 millis")
        cut()
        assert.isTrue(isUnavailable(yield* Fiber.join(waiting)))
        assert.isTrue(Exit.isSuccess(yield* asked("select 1")))

        const transaction = yield* Effect.promise(() => kysely.startTransaction().execute())
        yield* Effect.promise(() => sql`select 1`.execute(transaction))
        cut()
        yield* Effect.sleep("200 millis")
        const exit = yield* Effect.exit(Db.query(() => sql`select 2`.execute(transaction)))
        assert.isTrue(isUnavailable(exit))
        yield* Effect.ignore(Effect.tryPromise(() => transaction.rollback().execute()))
        assert.isTrue(Exit.isSuccess(yield* asked("select 3")))
      }).pipe(Effect.provide(Db.layerPostgres({ url: Redacted.make(direct.href), connections: 2 })))
    }).pipe(Effect.scoped)
  )

  it.live("cancels a statement that takes too long, and does not count a wrong statement as unavailability", () =>
    Effect.gen(function* () {
      const { kysely } = yield* Db.Db
      const asked = (statement: string) => Effect.exit(Db.query(() => sql.raw(statement).execute(kysely)))
      const settings = yield* Db.query(() =>
        sql<{ readonly statement_timeout: string }>`show statement_timeout`.execute(kysely)
      )
      assert.deepStrictEqual(settings.rows, [{ statement_timeout: "1min" }])
      assert.isTrue(isUnavailable(yield* asked("set local statement_timeout = 1; select pg_sleep(1)")))
      const wrong = yield* asked("select nothing from nowhere")
      assert.isTrue(Exit.isFailure(wrong) && !isUnavailable(wrong))
    }).pipe(Effect.provide(databases.postgres))
  )
})
