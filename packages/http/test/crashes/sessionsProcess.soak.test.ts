import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { sessionStress } from "./sessionStress.ts"

describe("Sessions on two servers that are killed repeatedly", () => {
  it.live(
    "lose no acknowledged write, and settle afterwards",
    () =>
      Effect.gen(function* () {
        const { done, wrong } = yield* sessionStress(25)
        assert.deepStrictEqual(wrong, [])
        for (const what of ["killed", "opened", "written", "read"]) assert.isAbove(done[what] ?? 0, 0, what)
      }).pipe(Effect.scoped),
    300_000
  )
})
