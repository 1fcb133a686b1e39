import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { started, onPostgres } from "./serverProcess.ts"

describe("A server with Vercel as its sandbox provider", () => {
  it.live("refuses to start without a token, and names the missing setting in one sentence", () =>
    Effect.gen(function* () {
      const database = yield* onPostgres
      const { child, said } = yield* started({ ...database, CASTELLAN_PROVIDER: "vercel" })
      const ended = Effect.suspend(() =>
        child.exitCode === null ? Effect.fail("runs") : Effect.succeed(child.exitCode)
      )
      assert.strictEqual(yield* Effect.retry(ended, { schedule: Schedule.spaced("50 millis"), times: 4000 }), 1)
      assert.strictEqual(
        said(),
        "Castellan can't start. VERCEL_TOKEN is not set; it must be an access token of a Vercel team.\n"
      )
    }).pipe(Effect.scoped)
  )
})
