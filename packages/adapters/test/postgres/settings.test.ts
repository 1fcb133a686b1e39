import * as Db from "@castellan/adapters/postgres/Db.ts"
import { assert, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer } from "effect"

const refusal = (environment: Record<string, string>) =>
  Effect.flip(Effect.scoped(Layer.build(Db.layerConfig({ dataDirectory: "/nonexistent" })))).pipe(
    Effect.provide(ConfigProvider.layer(ConfigProvider.fromEnvRecord(environment))),
    Effect.map(({ message }) => message)
  )

const url = "postgres://somebody@127.0.0.1:1/x"

it.effect("invalid settings of a database are rejected by name", () =>
  Effect.gen(function* () {
    for (const given of ["0", "1", "501", "ten", "-1", "1.5"]) {
      assert.strictEqual(
        yield* refusal({ DATABASE_URL: url, DATABASE_CONNECTIONS: given }),
        `DATABASE_CONNECTIONS is "${given}"; it must be a whole number from 2 to 500`
      )
    }
    assert.match(yield* refusal({ DATABASE_CONNECTIONS: "many" }), /^DATABASE_CONNECTIONS is "many"/)
    assert.match(yield* refusal({ DATABASE_URL: url, DATABASE_CONNECTIONS: "5" }), /ECONNREFUSED/)
    assert.match(yield* refusal({ DATABASE_URL: "mysql://x" }), /^DATABASE_URL must be postgres:/)
  })
)
