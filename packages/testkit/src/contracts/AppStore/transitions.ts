import { AppMove, type AppStep } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { hold, serve, sleep, end, forget, begun, stand, toldTo } from "./fixtures.ts"

export const transitions: Clauses<AppStore | EventStore | IdentityStore> = {
  "a step is written if the stored version is the one before, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const nowhere = given.appStep(given.app(one), serve)
      assert.isFalse(yield* store.take(one, [nowhere]))
      assert.isTrue(Option.isNone(yield* store.get(one, nowhere.app.name)))
      const app = yield* begun(one, [hold])
      const step = given.appStep(app, serve)
      assert.isFalse(yield* store.take(two, [step]))
      assert.isFalse(yield* store.take(one, [given.appStep(step.app, sleep)]))
      yield* stand(one, [app])
      assert.isTrue(yield* store.take(one, [step]))
      yield* stand(one, [step.app])
      assert.isFalse(yield* store.take(one, [step]))
      const silent = given.appStep(step.app, AppMove.Serve({ expiresAt: at(9000) }))
      assert.isNull(silent.event)
      assert.isTrue(yield* store.take(one, [silent]))
      assert.isFalse(yield* store.take(one, [silent]))
      yield* stand(one, [silent.app])
    }),

  "of many that take the same version at once one does, and that is told": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (let round = 0; round < 3; round++) {
        const scope = yield* given.scope
        const app = yield* begun(scope)
        const steps = Array.from({ length: 20 }, (_, i) =>
          given.appStep(app, i % 2 === 0 ? AppMove.Serve({ expiresAt: at(5000 + i) }) : end, at(8000 + i))
        )
        const taken = yield* atOnce(steps.map((step) => store.take(scope, [step])))
        const [winner, ...others] = steps.filter((_, i) => taken[i])
        assert.deepStrictEqual(others, [])
        yield* stand(scope, [winner!.app])
        assert.deepStrictEqual((yield* toldTo(scope)).slice(1), [winner!.event])
      }
    }),

  "several steps are written together, and none where one of them can't be": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const first = yield* begun(one, [serve, end])
      const second = yield* begun(one, [serve])
      const third = yield* begun(one)
      const foreign = yield* begun(two, [end])
      const before = [yield* toldTo(one), yield* toldTo(two)]
      const good = given.appStep(second, sleep)
      const held = given.appStep(first, hold)
      const stale = given.appStep(new AppSandbox({ ...first, version: first.version - 1 }), forget)
      const unknown = given.appStep(given.app(one), hold)
      const theirs = given.appStep(foreign, forget)
      for (const bad of [[stale], [unknown], [theirs], [good], [held, given.appStep(held.app, forget)]]) {
        for (const steps of [
          [good, ...bad],
          [...bad, good],
          [good, given.appStep(third, hold), ...bad]
        ]) {
          assert.isFalse(yield* store.take(one, steps))
        }
      }
      yield* stand(one, [first, second, third])
      yield* stand(two, [foreign])
      assert.deepStrictEqual([yield* toldTo(one), yield* toldTo(two)], before)
      const steps = [good, given.appStep(first, forget), given.appStep(third, hold)]
      assert.isTrue(yield* store.take(one, steps))
      yield* stand(
        one,
        steps.map(({ app }) => app)
      )
      assert.isFalse(yield* store.take(one, steps))
      assert.isTrue(yield* store.take(one, []))
    }),

  "of takes at once that name the same apps in either order one does": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (let round = 0; round < 3; round++) {
        const scope = yield* given.scope
        const apps: Array<AppSandbox> = []
        for (let i = 0; i < 4; i++) apps.push(yield* begun(scope, [end]))
        const takes = Array.from({ length: 10 }, (_, i) => {
          const steps = apps.map((app) => given.appStep(app, i % 3 === 0 ? hold : forget, at(8000 + i)))
          return i % 2 === 0 ? steps : steps.toReversed()
        })
        const taken = yield* atOnce(takes.map((steps) => store.take(scope, steps)))
        const [winner, ...others] = takes.filter((_, i) => taken[i])
        assert.deepStrictEqual(others, [])
        yield* stand(
          scope,
          winner!.map(({ app }) => app)
        )
      }
    }),

  "no app becomes ready beside another that is ready or stopped": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (const moves of [[serve], [serve, sleep]]) {
        const scope = yield* given.scope
        const ending = yield* begun(scope, [end])
        const active = yield* begun(scope, moves)
        const next = yield* begun(scope)
        const before = yield* toldTo(scope)
        const comesIn = given.appStep(next, serve)
        const gone = given.appStep(ending, forget)
        const renewed = given.appStep(active, serve)
        for (const steps of [[comesIn], [comesIn, gone], [gone, comesIn], [comesIn, renewed], [renewed, comesIn]]) {
          assert.isFalse(yield* store.take(scope, steps))
        }
        yield* stand(scope, [ending, active, next])
        assert.deepStrictEqual(yield* toldTo(scope), before)
        const theirs = yield* begun(yield* given.scope, [serve])
        assert.strictEqual(theirs.state, "ready")
      }
    }),

  "an app takes the place of another that ends with the same take, whichever is named first": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (const moves of [[serve], [serve, sleep]]) {
        for (const turn of [false, true]) {
          const scope = yield* given.scope
          const active = yield* begun(scope, moves)
          const next = yield* begun(scope)
          const before = yield* toldTo(scope)
          const steps: ReadonlyArray<AppStep> = [given.appStep(active, end), given.appStep(next, serve)]
          assert.isTrue(yield* store.take(scope, turn ? steps.toReversed() : steps))
          yield* stand(
            scope,
            steps.map(({ app }) => app)
          )
          assert.deepStrictEqual(yield* store.active(scope), Option.some(steps[1]!.app))
          assert.sameDeepMembers((yield* toldTo(scope)).slice(before.length), [steps[0]!.event!, steps[1]!.event!])
        }
      }
    })
}
