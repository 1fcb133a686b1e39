import { AppTransition, type AppliedAppTransition } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { hold, serve, sleep, end, forget, beginApp, assertStored, eventsOf } from "./fixtures.ts"

export const transitions: Clauses<AppStore | EventStore | IdentityStore> = {
  "a transition is written only from the previous version and only in the scope of its account": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const nowhere = given.appStep(given.app(one), serve)
      assert.isFalse(yield* store.compareAndSet(one, [nowhere]))
      assert.isTrue(Option.isNone(yield* store.get(one, nowhere.after.name)))
      const app = yield* beginApp(one, [hold])
      const step = given.appStep(app, serve)
      assert.isFalse(yield* store.compareAndSet(two, [step]))
      assert.isFalse(yield* store.compareAndSet(one, [given.appStep(step.after, sleep)]))
      yield* assertStored(one, [app])
      assert.isTrue(yield* store.compareAndSet(one, [step]))
      yield* assertStored(one, [step.after])
      assert.isFalse(yield* store.compareAndSet(one, [step]))
      const silent = given.appStep(step.after, AppTransition.Serve({ expiresAt: at(9000) }))
      assert.isNull(silent.event)
      assert.isTrue(yield* store.compareAndSet(one, [silent]))
      assert.isFalse(yield* store.compareAndSet(one, [silent]))
      yield* assertStored(one, [silent.after])
    }),

  "one of several concurrent transitions from the same version is written and emits its event": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (let round = 0; round < 3; round++) {
        const scope = yield* given.scope
        const app = yield* beginApp(scope)
        const steps = Array.from({ length: 20 }, (_, i) =>
          given.appStep(app, i % 2 === 0 ? AppTransition.Serve({ expiresAt: at(5000 + i) }) : end, at(8000 + i))
        )
        const taken = yield* atOnce(steps.map((step) => store.compareAndSet(scope, [step])))
        const [winner, ...others] = steps.filter((_, i) => taken[i])
        assert.deepStrictEqual(others, [])
        yield* assertStored(scope, [winner!.after])
        assert.deepStrictEqual((yield* eventsOf(scope)).slice(1), [winner!.event])
      }
    }),

  "several transitions are written together or not at all": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const first = yield* beginApp(one, [serve, end])
      const second = yield* beginApp(one, [serve])
      const third = yield* beginApp(one)
      const foreign = yield* beginApp(two, [end])
      const before = [yield* eventsOf(one), yield* eventsOf(two)]
      const good = given.appStep(second, sleep)
      const held = given.appStep(first, hold)
      const stale = given.appStep(new AppSandbox({ ...first, version: first.version - 1 }), forget)
      const unknown = given.appStep(given.app(one), hold)
      const theirs = given.appStep(foreign, forget)
      for (const bad of [[stale], [unknown], [theirs], [good], [held, given.appStep(held.after, forget)]]) {
        for (const steps of [
          [good, ...bad],
          [...bad, good],
          [good, given.appStep(third, hold), ...bad]
        ]) {
          assert.isFalse(yield* store.compareAndSet(one, steps))
        }
      }
      yield* assertStored(one, [first, second, third])
      yield* assertStored(two, [foreign])
      assert.deepStrictEqual([yield* eventsOf(one), yield* eventsOf(two)], before)
      const steps = [good, given.appStep(first, forget), given.appStep(third, hold)]
      assert.isTrue(yield* store.compareAndSet(one, steps))
      yield* assertStored(
        one,
        steps.map(({ after }) => after)
      )
      assert.isFalse(yield* store.compareAndSet(one, steps))
      assert.isTrue(yield* store.compareAndSet(one, []))
    }),

  "one of several concurrent writes to the same apps succeeds, in whatever order they name them": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (let round = 0; round < 3; round++) {
        const scope = yield* given.scope
        const apps: Array<AppSandbox> = []
        for (let i = 0; i < 4; i++) apps.push(yield* beginApp(scope, [end]))
        const takes = Array.from({ length: 10 }, (_, i) => {
          const steps = apps.map((app) => given.appStep(app, i % 3 === 0 ? hold : forget, at(8000 + i)))
          return i % 2 === 0 ? steps : steps.toReversed()
        })
        const taken = yield* atOnce(takes.map((steps) => store.compareAndSet(scope, steps)))
        const [winner, ...others] = takes.filter((_, i) => taken[i])
        assert.deepStrictEqual(others, [])
        yield* assertStored(
          scope,
          winner!.map(({ after }) => after)
        )
      }
    }),

  "no app becomes ready while another is ready or stopped": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (const moves of [[serve], [serve, sleep]]) {
        const scope = yield* given.scope
        const ending = yield* beginApp(scope, [end])
        const active = yield* beginApp(scope, moves)
        const next = yield* beginApp(scope)
        const before = yield* eventsOf(scope)
        const comesIn = given.appStep(next, serve)
        const gone = given.appStep(ending, forget)
        const renewed = given.appStep(active, serve)
        for (const steps of [[comesIn], [comesIn, gone], [gone, comesIn], [comesIn, renewed], [renewed, comesIn]]) {
          assert.isFalse(yield* store.compareAndSet(scope, steps))
        }
        yield* assertStored(scope, [ending, active, next])
        assert.deepStrictEqual(yield* eventsOf(scope), before)
        const theirs = yield* beginApp(yield* given.scope, [serve])
        assert.strictEqual(theirs.state, "ready")
      }
    }),

  "an app becomes ready in the same write that ends the active one, in either order": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (const moves of [[serve], [serve, sleep]]) {
        for (const turn of [false, true]) {
          const scope = yield* given.scope
          const active = yield* beginApp(scope, moves)
          const next = yield* beginApp(scope)
          const before = yield* eventsOf(scope)
          const steps: ReadonlyArray<AppliedAppTransition> = [given.appStep(active, end), given.appStep(next, serve)]
          assert.isTrue(yield* store.compareAndSet(scope, turn ? steps.toReversed() : steps))
          yield* assertStored(
            scope,
            steps.map(({ after }) => after)
          )
          assert.deepStrictEqual(yield* store.active(scope), Option.some(steps[1]!.after))
          assert.sameDeepMembers((yield* eventsOf(scope)).slice(before.length), [steps[0]!.event!, steps[1]!.event!])
        }
      }
    })
}
