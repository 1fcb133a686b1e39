import { Reconciler } from "@castellan/domain/session/Reconciler.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { Lifecycle, unopened } from "@castellan/domain/session/Session.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Effect, Fiber, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import { useCases } from "./useCases.ts"
import { layer as faultyProvider, Trouble, ProviderFaults } from "./ProviderFaults.ts"

const world = useCases().pipe(Layer.provideMerge(faultyProvider), Layer.provideMerge(World.layer))

const countsOf = Effect.map(ProviderFaults, ({ calls }) => {
  const counts: Record<string, number> = {}
  for (const { method } of calls) counts[method] = (counts[method] ?? 0) + 1
  return counts
})

describe("Many sessions", () => {
  it.effect("that are opened at the same time get one sandbox each, with one call each", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const sessions = yield* Sessions
      const faults = yield* ProviderFaults
      const wanted = { title: null, repo: null, organization: null, nonce: Option.none() }
      const all = yield* Effect.forEach(Array.from({ length: 200 }), () => sessions.create(scope, wanted))
      for (const _ of all) faults.plan("create", Trouble.Slow({ before: 500, after: 500 }))
      const opening = yield* Effect.forkChild(
        Effect.forEach(all, ({ id }) => sessions.open(scope, id, null), { concurrency: "unbounded" })
      )
      yield* TestClock.adjust("1 second")
      const ups = yield* Fiber.join(opening)
      assert.strictEqual(new Set(ups.map(({ sandbox }) => sandbox.name)).size, 200)
      assert.strictEqual((yield* MemorySandboxes).names().length, 200)
      assert.deepStrictEqual(yield* countsOf, { find: 200, create: 200 })
      assert.strictEqual(faults.most(), 200)
    }).pipe(Effect.provide(world))
  )

  it.effect("that are due are handled in batches with limited concurrency, and one provider query per batch", () =>
    Effect.gen(function* () {
      const count = 10_000
      const scope = yield* given.scope
      const store = yield* SessionStore
      const provider = yield* SandboxProvider
      const faults = yield* ProviderFaults
      const { pass } = yield* Reconciler
      const now = yield* DateTime.now
      for (let n = 0; n < count; n++) {
        const name = SandboxName.make(`ses_${n}`)
        const { expiresAt, incarnation } = yield* provider.create({
          name,
          from: Option.none(),
          lifetime: Duration.minutes(30)
        })
        const lifecycle = new Lifecycle({
          ...unopened,
          state: "active",
          sandbox: name,
          incarnation,
          needsCheckout: false,
          hibernateAfter: now,
          sandboxExpiresAt: expiresAt,
          nextCheckAt: now
        })
        yield* store.add(scope, given.session(scope, { lifecycle }))
        faults.plan("stop", Trouble.Slow({ before: 50, after: 50 }))
      }
      const passing = yield* Effect.forkChild(Effect.repeat(pass, { until: (seen) => seen === 0 }))
      for (let second = 0; passing.pollUnsafe() === undefined && second < 60; second++) {
        yield* TestClock.adjust("1 second")
      }
      yield* Fiber.join(passing)
      assert.deepStrictEqual(yield* countsOf, { create: count, findMany: count / 100, stop: count })
      assert.strictEqual(faults.most(), 20)
      const { rows } = yield* store.list(scope, { limit: count, cursor: null })
      assert.isTrue(rows.every(({ lifecycle }) => lifecycle.state === "hibernated"))
    }).pipe(Effect.provide(world))
  )
})
