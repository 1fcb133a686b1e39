import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { once } from "node:events"
import { ask } from "./PreviewFixture.ts"
import { listening, onPostgres } from "../server/serverProcess.ts"

describe("The server", () => {
  it.live("serves previews below localhost or the configured host, and the API on every other host", () =>
    Effect.gen(function* () {
      const database = yield* onPostgres
      for (const [environment, preview, other] of [
        [{}, "5173-app-none.localhost", "5173-app-none.preview.example.com"],
        [
          { CASTELLAN_PREVIEW_URL: "https://preview.example.com" },
          "5173-app-none.preview.example.com",
          "5173-app-none.localhost"
        ]
      ] as const) {
        yield* Effect.gen(function* () {
          const { child, url } = yield* listening({ ...database, ...environment })
          const port = Number(new URL(url).port)
          const { headers, status, text } = yield* ask(port, preview, { path: "/health" })
          assert.deepStrictEqual([status, text], [404, "This app has stopped.\n"])
          assert.isUndefined(headers["x-request-id"])
          for (const host of [other, `localhost:${port}`]) {
            assert.strictEqual((yield* ask(port, host, { path: "/health" })).text, '{"status":"ok"}')
          }
          child.kill("SIGTERM")
          yield* Effect.promise(() => once(child, "exit"))
        }).pipe(Effect.scoped)
      }
    }).pipe(Effect.scoped)
  )
})
