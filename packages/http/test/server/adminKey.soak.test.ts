/** Resets of the platform admin's key beside running servers, which share a Postgres server. */
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import * as EmbeddedPostgres from "../../../adapters/test/embeddedPostgres.ts"
import { castellanOver } from "../../../cli/test/castellanCommand.ts"
import { dataDirectory, listening } from "./serverProcess.ts"

it.live("concurrent resets next to a running server print keys that it accepts at once", () =>
  Effect.gen(function* () {
    const database = yield* Effect.acquireRelease(
      Effect.promise(() => EmbeddedPostgres.start()),
      ({ stop }) => Effect.promise(stop)
    )
    const environment = {
      CASTELLAN_DATA_DIR: yield* dataDirectory,
      DATABASE_URL: `${database.url}/postgres`
    }
    const { key, url } = yield* listening(environment)
    const reset = castellanOver(fetch, ["admin-key", "--reset"], { env: environment })
    const said = yield* Effect.all([reset, reset, reset], { concurrency: "unbounded" })
    const statusOf = (key: string) =>
      Effect.promise(async () => (await fetch(`${url}/api/keys`, { headers: { "x-api-key": key } })).status)
    assert.deepStrictEqual(
      yield* Effect.forEach([key!, ...said.map(({ stdout }) => stdout.trim())], statusOf),
      [401, 200, 200, 200]
    )
  }).pipe(Effect.scoped)
)
