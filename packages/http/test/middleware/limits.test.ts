import { AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { defaultLimits, Limits } from "../../src/middleware/Limits.ts"
import * as given from "@castellan/testkit/given.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Result } from "effect"
import { TestClock } from "effect/testing"
import * as World from "@castellan/testkit/World.ts"

const day = 24 * 60 * 60 * 1000

const [one, two] = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"].map((id) =>
  AccountId.make(id)
) as [AccountId, AccountId]

const scopeOf = (account: AccountId) => AccountScope.ofOwner({ account })

/** Milliseconds to wait; 0 if the call is allowed. */
const waitOf = (call: Effect.Effect<void, { readonly retryAfterMs: number }>) =>
  Effect.map(Effect.result(call), (result) => (Result.isSuccess(result) ? 0 : result.failure.retryAfterMs))

const times = (count: number, wait: Effect.Effect<number>) => Effect.all(Array.from({ length: count }, () => wait))

describe("Rate limits of an account", () => {
  it.effect("work again within a minute after the system clock was set back", () =>
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

  it.effect("refuse the request after the last allowed one with the time until the next is allowed", () =>
    Effect.gen(function* () {
      const limits = yield* Limits
      const asks = waitOf(limits.request(one))
      assert.deepStrictEqual(yield* times(5, asks), [0, 0, 0, 0, 15_000])
      yield* TestClock.adjust(14_999)
      assert.strictEqual(yield* asks, 1)
      yield* TestClock.adjust(1)
      assert.deepStrictEqual(yield* times(2, asks), [0, 15_000])
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(yield* times(5, asks), [0, 0, 0, 0, 15_000])
    }).pipe(Effect.provide(Limits.layer({ requests: 4, creates: 2 })))
  )

  it.effect("count requests and creations separately, and each account by itself", () =>
    Effect.gen(function* () {
      const limits = yield* Limits
      const creates = waitOf(limits.create(scopeOf(one)))
      assert.deepStrictEqual(yield* times(3, creates), [0, 0, 30_000])
      assert.deepStrictEqual(yield* times(5, waitOf(limits.request(one))), [0, 0, 0, 0, 15_000])
      assert.deepStrictEqual(yield* times(3, waitOf(limits.create(scopeOf(two)))), [0, 0, 30_000])
      assert.strictEqual(yield* waitOf(limits.request(two)), 0)
    }).pipe(Effect.provide(Limits.layer({ requests: 4, creates: 2 })))
  )

  it("are 6,000 requests and 600 creations per minute by default", () => {
    const { creates, requests } = defaultLimits
    assert.deepStrictEqual([requests, creates], [6000, 600])
  })
})
