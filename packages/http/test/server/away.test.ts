import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { DatabaseUnavailable } from "@castellan/domain/DatabaseUnavailable.ts"
import { DataHealth } from "../../src/server/DataHealth.ts"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Logger } from "effect"
import { WebApi } from "../WebApi.ts"

const away = Effect.die(new DatabaseUnavailable(new Error("connect ECONNREFUSED 10.0.0.7:5432")))

const world = Layer.fresh(
  WebApi.over(
    Layer.effect(
      AccountStore,
      Effect.map(AccountStore, (real) => ({ ...real, list: () => away, add: () => away }))
    )
  )
).pipe(Layer.provideMerge(Logger.layer([])))

const missing = Effect.die(new DatabaseUnavailable(new Error("ENOENT"), "The data directory is missing"))

const lost = Layer.fresh(
  WebApi.over(
    Layer.merge(
      Layer.effect(
        AccountStore,
        Effect.map(AccountStore, (real) => ({ ...real, list: () => missing }))
      ),
      Layer.succeed(DataHealth, Effect.succeed("is full"))
    )
  )
).pipe(Layer.provideMerge(Logger.layer([])))

it.effect("a request gets 503 with retry-after if the database is unavailable, without its address", () =>
  Effect.gen(function* () {
    const { ask, join } = yield* WebApi
    const { key } = yield* join()
    for (const method of ["GET", "POST"]) {
      const { headers, json, status } = yield* ask(method, "/api/sandboxes", { key })
      assert.deepStrictEqual(
        [status, json, headers.get("retry-after")],
        [
          503,
          {
            status: "error",
            success: false,
            error: "The store does not answer",
            code: "not_ready",
            retryAfterMs: 1000
          },
          "1"
        ]
      )
    }
  }).pipe(Effect.provide(world))
)

it.effect("a request gets 503 with the reason if the data directory is missing or full", () =>
  Effect.gen(function* () {
    const { ask, join } = yield* WebApi
    const { key } = yield* join()
    const { json, status } = yield* ask("GET", "/api/sandboxes", { key })
    assert.deepStrictEqual([status, json.code, json.error], [503, "not_ready", "The data directory is missing"])
    const ready = yield* ask("GET", "/ready")
    assert.deepStrictEqual(
      [ready.status, ready.json.code, ready.json.error],
      [503, "not_ready", "The data directory is full"]
    )
  }).pipe(Effect.provide(lost))
)
