import { AppTransition, createdEvent } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore, type EventWithCursor } from "@castellan/domain/sandbox/EventStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { hold, serve, end, forget, beginApp, eventsOf } from "./fixtures.ts"

export const events: Clauses<AppStore | EventStore | IdentityStore> = {
  "the begin and the visible transitions of an app emit one event each, and refused writes emit none": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const app = yield* beginApp(one, [], { createdAt: at(1_001) })
      for (const scope of [one, two]) yield* store.begin(scope, app)
      const held = given.appStep(app, hold)
      const served = given.appStep(held.after, serve, at(1_002))
      const used = given.appStep(served.after, AppTransition.Serve({ expiresAt: at(9000) }))
      const slept = given.appStep(
        used.after,
        AppTransition.MarkStopped({ reason: { code: "stopped", sentence: "it's late" }, nextCheckAt: at(6000) }),
        at(1_003)
      )
      const ended = given.appStep(
        slept.after,
        AppTransition.Terminate({
          reason: { code: "user_requested", sentence: "it's över" },
          leaseExpiresAt: at(7000)
        }),
        at(1_004)
      )
      const forgotten = given.appStep(ended.after, forget, at(1_005))
      for (const step of [held, served, used, slept, ended, forgotten]) {
        for (const scope of [two, one, one]) yield* store.compareAndSet(scope, [step])
      }
      yield* store.claimDue(at(-1_000_000), at(-1_000_000), 1)
      assert.deepStrictEqual(yield* eventsOf(one), [
        createdEvent(app),
        served.event!,
        slept.event!,
        ended.event!,
        forgotten.event!
      ])
      assert.deepStrictEqual(yield* eventsOf(two), [])
    }),

  "a reader of concurrently written app events misses none and sees each app's events in order": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const events = yield* EventStore
      const scope = yield* given.scope
      const ending: Array<AppSandbox> = []
      for (let i = 0; i < 40; i++) ending.push(yield* beginApp(scope, [end]))
      const endings = ending.map((app) => store.compareAndSet(scope, [given.appStep(app, forget)]))
      // A begin that returns an existing app ends that app; one of several concurrent ends succeeds.
      const life = Effect.gen(function* () {
        const app = Option.getOrThrow(yield* store.begin(scope, given.app(scope)))
        const step = given.appStep(app, end)
        const isEnding = yield* store.compareAndSet(scope, [step])
        return !isEnding || (yield* store.compareAndSet(scope, [given.appStep(step.after, forget)]))
      })
      const lives = Array.from({ length: 20 }, () => life)
      let writing = true
      const read: Array<EventWithCursor> = []
      const reading = Effect.gen(function* () {
        for (let isLast = false; !isLast;) {
          isLast = !writing
          read.push(...(yield* events.read(scope, read.at(-1)?.cursor ?? null, 1000)))
          yield* Effect.yieldNow
        }
      })
      const write = Effect.ensuring(
        atOnce([...endings, ...lives]),
        Effect.sync(() => (writing = false))
      )
      const [written] = yield* Effect.all([write, reading], { concurrency: "unbounded" })
      assert.isTrue(written.every(Boolean))
      assert.deepStrictEqual(read, yield* events.read(scope, null, 1000))
      const names = new Set(read.map(({ event }) => event.sandbox))
      for (const name of names) {
        const types = read.filter(({ event }) => event.sandbox === name).map(({ event }) => event.type)
        assert.deepStrictEqual(types, ["sandbox.pending", "sandbox.stopping", "sandbox.removed"])
      }
      assert.deepStrictEqual(yield* store.listLive(scope), [])
    })
}
