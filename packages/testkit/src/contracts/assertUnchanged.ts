import { assert } from "@effect/vitest"
import { Effect } from "effect"

/** Asserts that no write changes any of the rows; a failure names the write. */
export const assertUnchanged = Effect.fnUntraced(function* <E, R, E2, R2>(
  rows: Record<string, Effect.Effect<unknown, E, R>>,
  writes: Record<string, Effect.Effect<unknown, E2, R2>>
) {
  const read = Effect.all(rows)
  const before = yield* read
  for (const [name, write] of Object.entries(writes)) {
    yield* write
    assert.deepStrictEqual(yield* read, before, name)
  }
})
