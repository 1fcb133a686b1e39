import { isExpired, newExpiry, renewalInterval, whileRenewing } from "@castellan/domain/lifecycle/Lease.ts"
import { retryDelay, retrySchedule } from "@castellan/domain/lifecycle/RetryPolicy.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Exit, Fiber, Schedule } from "effect"
import { TestClock } from "effect/testing"

const lease = Duration.seconds(30)

describe("A lease", () => {
  it("is expired at the moment of its expiry, and if it was never taken", () => {
    const at = DateTime.makeUnsafe
    assert.isTrue(isExpired(null, at(5)))
    assert.isTrue(isExpired(at(5), at(5)))
    assert.isFalse(isExpired(at(6), at(5)))
  })

  it.effect("expires its full length after it was taken", () =>
    Effect.gen(function* () {
      const now = yield* DateTime.now
      assert.deepStrictEqual(yield* newExpiry(lease), DateTime.addDuration(now, lease))
    })
  )

  it.effect("is renewed at every third of its length until the work ends", () =>
    Effect.gen(function* () {
      let renewals = 0
      const renew = Effect.sync(() => ++renewals > 0)
      const work = Effect.as(Effect.sleep("25 seconds"), "done")
      const working = yield* Effect.forkChild(whileRenewing(work, { lease, renew, lost: Effect.fail("lost" as const) }))
      yield* TestClock.adjust(renewalInterval(lease))
      assert.strictEqual(renewals, 1)
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual(yield* Fiber.join(working), "done")
      assert.strictEqual(renewals, 2)
    })
  )

  it.effect("interrupts the work once it is lost", () =>
    Effect.gen(function* () {
      let interrupted = false
      const work = Effect.onInterrupt(Effect.never, () => Effect.sync(() => (interrupted = true)))
      const options = { lease, renew: Effect.succeed(false), lost: Effect.fail("lost" as const) }
      const working = yield* Effect.forkChild(whileRenewing(work, options))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(yield* Effect.exit(Fiber.join(working)), Exit.fail("lost" as const))
      assert.isTrue(interrupted)
    })
  )
})

describe("A retry policy", () => {
  const policy = { initial: Duration.seconds(1), longest: Duration.minutes(1) }

  it("doubles the delay with each failure, up to its longest", () => {
    const delays = [1, 2, 3, 6, 7, 8, 1000].map((failures) => Duration.toSeconds(retryDelay(policy, failures)))
    assert.deepStrictEqual(delays, [1, 2, 4, 32, 60, 60, 60])
  })

  it.effect("retries in this process by the same delays, a fifth more or less", () =>
    Effect.gen(function* () {
      const step = yield* Schedule.toStep(retrySchedule(policy))
      for (let failures = 1; failures <= 8; failures++) {
        const [, delay] = yield* Effect.orDie(step(0, undefined))
        const ratio = Duration.toMillis(delay) / Duration.toMillis(retryDelay(policy, failures))
        assert.isTrue(ratio >= 0.8 && ratio <= 1.2, `${failures}: ${ratio}`)
      }
    })
  )
})
