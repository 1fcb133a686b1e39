import { Limits } from "@castellan/http/Limits.ts"
import * as given from "@castellan/testkit/given.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as World from "@castellan/testkit/World.ts"

const day = 24 * 60 * 60 * 1000

describe("An account's limits", () => {
  it.effect("recover within the minute after the system's clock was stepped back", () =>
    Effect.gen(function* () {
      yield* TestClock.setTime(1_800_000_000_000)
      const { account } = yield* given.scope
      const limits = yield* Limits
      yield* limits.request(account)
      yield* limits.request(account)
      assert.isAtMost((yield* Effect.flip(limits.request(account))).retryAfterMs, 60_000)
      yield* TestClock.setTime(1_800_000_000_000 - 26 * day)
      assert.isAtMost((yield* Effect.flip(limits.request(account))).retryAfterMs, 60_000)
      yield* TestClock.adjust("1 minute")
      yield* limits.request(account)
    }).pipe(Effect.provide([Limits.layer({ requests: 2, creates: 2 }), World.layer]))
  )
})
