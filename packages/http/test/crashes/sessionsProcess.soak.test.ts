import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { sessionStress } from "./sessionStress.ts"

describe("Sessions of two servers that are killed again and again", () => {
  it.live(
    "lose nothing that was said to be written, and come to rest",
    () =>
      Effect.gen(function* () {
        const { done, wrong } = yield* sessionStress(25)
        assert.deepStrictEqual(wrong, [])
        for (const what of ["killed", "opened", "written", "read"]) assert.isAbove(done[what] ?? 0, 0, what)
      }).pipe(Effect.scoped),
    300_000
  )
})
