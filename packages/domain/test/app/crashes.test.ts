import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { crashAtEachCall } from "@castellan/testkit/crashAtEachCall.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Option } from "effect"
import { TestClock } from "effect/testing"
import { useCases } from "./useCases.ts"

/** One server process over ports that outlive it. Each port has a decorator that can kill the process. */
const life = Layer.fresh(
  useCases().pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Faults.around(AppStore, "AppStore"),
        Faults.around(BaseImageStore, "BaseImageStore"),
        Faults.around(SandboxProvider, "SandboxProvider")
      )
    )
  )
)

const world = Layer.mergeAll(World.layer, Faults.Faults.layer, Logger.layer([]))

const seconds = Effect.fnUntraced(function* (count: number) {
  for (let second = 0; second < count; second++) yield* TestClock.adjust("1 second")
})

/** The result of an effect while the clock advances. */
const inTime = Effect.fnUntraced(function* <A, E, R>(doing: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkChild(doing)
  yield* seconds(5)
  for (let minute = 0; minute < 6 && fiber.pollUnsafe() === undefined; minute++) yield* TestClock.adjust("1 minute")
  return yield* Fiber.join(fiber)
})

const create = (scope: AccountScope) => Effect.flatMap(AppSandboxes, (apps) => apps.create(scope, Option.none()))

const end = (scope: AccountScope) => Effect.flatMap(AppSandboxes, (apps) => apps.terminate(scope, Option.none()))

const active = (scope: AccountScope) =>
  Effect.flatMap(AppSandboxes, (apps) => Effect.option(apps.find(scope, Option.none())))

const housekeeping = Effect.gen(function* () {
  yield* TestClock.adjust("5 minutes")
  yield* (yield* AppSandboxes).reconcile
  yield* (yield* BaseImages).collect
})

type Living = Layer.Success<typeof life | typeof world>

/**
 * Kills the server before and after each call that `doing` makes, and passes the remaining state to the next server.
 */
const atEachStep = (
  first: (scope: AccountScope) => Effect.Effect<unknown, unknown, Living>,
  doing: (scope: AccountScope) => Effect.Effect<unknown, unknown, Living>,
  later: (scope: AccountScope, when: string) => Effect.Effect<void, unknown, Living>
) =>
  crashAtEachCall({
    world,
    server: life,
    prepare: (scope) => inTime(first(scope)),
    act: (scope) => inTime(doing(scope)),
    verify: later
  })

const names = Effect.map(MemorySandboxes, (memory) => memory.names().map(String))

describe("A server that is killed", () => {
  it.effect("at any step of creating the first app does not block the next one, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep(
        () => Effect.void,
        create,
        Effect.fnUntraced(function* (scope, when) {
          const app = yield* inTime(create(scope))
          assert.deepStrictEqual(yield* active(scope), Option.some(app), when)
          yield* housekeeping
          assert.deepStrictEqual(yield* names, [app.name], when)
          assert.strictEqual((yield* MemorySandboxes).snapshots().length, 1, when)
        })
      )
      for (const step of [
        "AppStore.begin",
        "SandboxProvider.create",
        "SandboxProvider.start",
        "AppStore.compareAndSet"
      ]) {
        assert.include(steps, step)
      }
    })
  )

  it.effect("at any step of creating another app leaves one active app, and only its sandbox", () =>
    Effect.gen(function* () {
      const steps = yield* atEachStep(
        create,
        create,
        Effect.fnUntraced(function* (scope, when) {
          const apps = yield* AppSandboxes
          const now = Option.getOrThrow(yield* active(scope))
          assert.isTrue(yield* apps.isAlive(now), when)
          yield* housekeeping
          assert.deepStrictEqual(yield* active(scope), Option.some(now), when)
          assert.deepStrictEqual(yield* names, [now.name], when)
        })
      )
      assert.include(steps, "SandboxProvider.remove")
    })
  )

  it.effect("at any step of ending an app ends the app", () =>
    Effect.gen(function* () {
      yield* atEachStep(
        create,
        end,
        Effect.fnUntraced(function* (scope, when) {
          if (Option.isSome(yield* active(scope))) yield* end(scope)
          yield* housekeeping
          assert.isTrue(Option.isNone(yield* active(scope)), when)
          assert.deepStrictEqual(yield* names, [], when)
        })
      )
    })
  )
})
