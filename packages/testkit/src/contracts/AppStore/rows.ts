import { AppTransition, createdEvent } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { assertUnchanged } from "../assertUnchanged.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { hold, serve, sleep, end, forget, beginApp, assertStored, eventsOf } from "./fixtures.ts"

export const rows: Clauses<AppStore | EventStore | IdentityStore> = {
  "an app is found as it was begun, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const app = given.app(one, {
        version: 3,
        port: Port.make(65_535),
        createdAt: at(1_123),
        expiresAt: at(2_456),
        nextCheckAt: at(3_001),
        reason: "därüm"
      })
      assert.isTrue(Option.isNone(yield* store.get(one, app.name)))
      assert.deepStrictEqual(yield* store.begin(one, app), Option.some(app))
      assert.deepStrictEqual(yield* store.get(one, app.name), Option.some(app))
      assert.isTrue(Option.isNone(yield* store.get(two, app.name)))
      yield* assertStored(two, [yield* beginApp(two)])
    }),

  "beginning a name twice returns the existing row": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const scope = yield* given.scope
      const app = yield* beginApp(scope)
      const others = Array.from({ length: 8 }, (_, i) => new AppSandbox({ ...app, port: Port.make(4000 + i) }))
      for (const existing of yield* atOnce(others.map((other) => store.begin(scope, other)))) {
        assert.deepStrictEqual(existing, Option.some(app))
      }
      const { after: ready } = given.appStep(app, serve)
      yield* store.compareAndSet(scope, [given.appStep(app, serve)])
      yield* beginApp(scope)
      assert.deepStrictEqual(yield* store.begin(scope, app), Option.some(ready))
    }),

  "a name that belongs to another account is refused and unchanged": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const app = yield* beginApp(one)
      const same = new AppSandbox({ ...app, account: two.account, port: Port.make(4000) })
      assert.isTrue(Option.isNone(yield* store.begin(two, same)))
      assert.deepStrictEqual(yield* store.listLive(two), [])
      const own = yield* beginApp(two)
      assert.isTrue(Option.isNone(yield* store.begin(two, same)))
      yield* assertStored(one, [app])
      assert.deepStrictEqual(yield* store.listLive(two), [own])
    }),

  "an app is begun for the scope's account even if it names another": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const app = given.app(two)
      const written = new AppSandbox({ ...app, account: one.account })
      assert.deepStrictEqual(yield* store.begin(one, app), Option.some(written))
      yield* assertStored(one, [written])
      assert.isTrue(Option.isNone(yield* store.get(two, app.name)))
      assert.deepStrictEqual(yield* eventsOf(one), [createdEvent(written)])
      assert.deepStrictEqual(yield* eventsOf(two), [])
    }),

  "while an app of the account is starting, concurrent begins return that app": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (let round = 0; round < 3; round++) {
        const [scope, other] = [yield* given.scope, yield* given.scope]
        const theirs = yield* beginApp(other)
        const apps = Array.from({ length: 20 }, () => given.app(scope))
        const answers = yield* atOnce(apps.map((app) => store.begin(scope, app)))
        const [winner, ...others] = yield* store.listLive(scope)
        assert.deepStrictEqual(others, [])
        assert.deepInclude(apps, winner)
        for (const answer of answers) assert.deepStrictEqual(answer, Option.some(winner!))
        assert.deepStrictEqual(yield* eventsOf(scope), [createdEvent(winner!)])
        assert.deepStrictEqual(yield* store.listLive(other), [theirs])
      }
    }),

  "the next app begins once the previous one is no longer starting": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (const moves of [[serve], [serve, sleep], [end], [end, forget]]) {
        const scope = yield* given.scope
        const before = yield* beginApp(scope, moves)
        yield* assertStored(scope, [before, yield* beginApp(scope)])
      }
      for (let round = 0; round < 10; round++) {
        const scope = yield* given.scope
        const first = yield* beginApp(scope)
        const begins = () => atOnce(Array.from({ length: 5 }, () => store.begin(scope, given.app(scope))))
        const taking = store.compareAndSet(scope, [given.appStep(first, serve)])
        const [some, isTaken, others] = yield* Effect.all([begins(), taking, begins()], { concurrency: "unbounded" })
        assert.isTrue(isTaken)
        const next = (yield* store.listLive(scope)).filter(({ state }) => state === "starting")
        assert.isAtMost(next.length, 1)
        for (const answer of [...some, ...others]) assert.deepInclude([first, ...next], Option.getOrThrow(answer))
      }
    }),

  "ownerOf returns the account of an app": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second] = [yield* beginApp(one), yield* beginApp(two, [end, forget])]
      assert.deepStrictEqual(yield* store.ownerOf(first.name), Option.some(one.account))
      assert.deepStrictEqual(yield* store.ownerOf(second.name), Option.some(two.account))
      assert.isTrue(Option.isNone(yield* store.ownerOf(given.app(one).name)))
    }),

  "active returns the account's app that is ready or stopped": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      for (const moves of [[end, forget], [serve, end], []]) yield* beginApp(one, moves)
      assert.isTrue(Option.isNone(yield* store.active(one)))
      const ready = yield* beginApp(two, [serve])
      yield* beginApp(two)
      assert.deepStrictEqual(yield* store.active(two), Option.some(ready))
      assert.isTrue(Option.isNone(yield* store.active(one)))
      const stopped = given.appStep(ready, sleep)
      yield* store.compareAndSet(two, [stopped])
      assert.deepStrictEqual(yield* store.active(two), Option.some(stopped.after))
      yield* store.compareAndSet(two, [given.appStep(stopped.after, end)])
      assert.isTrue(Option.isNone(yield* store.active(two)))
    }),

  "listLive returns the account's apps that have not ended, oldest first": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [scope, other] = [yield* given.scope, yield* given.scope]
      assert.deepStrictEqual(yield* store.listLive(scope), [])
      const ending = yield* beginApp(scope, [serve, end], { createdAt: at(3) })
      const ready = yield* beginApp(scope, [serve], { createdAt: at(1) })
      yield* beginApp(scope, [end, forget], { createdAt: at(2) })
      const starting = yield* beginApp(scope, [], { createdAt: at(2) })
      yield* beginApp(other, [], { createdAt: at(2) })
      assert.deepStrictEqual(yield* store.listLive(scope), [ready, starting, ending])
    }),

  "a write does not change any other app": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      // Rows of this and another account at each version that a write names.
      const others = [yield* beginApp(one, [end]), yield* beginApp(one, [end, hold]), yield* beginApp(two, [end])]
      const app = yield* beginApp(one, [end])
      const held = given.appStep(app, hold)
      const gone = given.appStep(held.after, forget)
      const rows = Object.fromEntries(others.map((row, i) => [`${i}`, store.get(AccountScope.ofOwner(row), row.name)]))
      yield* assertUnchanged(rows, {
        begin: beginApp(one),
        take: store.compareAndSet(one, [held]),
        "take of another step": store.compareAndSet(one, [gone])
      })
      yield* assertStored(one, [gone.after])
    }),

  "a text with a NUL character can be written": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const scope = yield* given.scope
      const clean = (text: string | null | undefined) => text?.replaceAll("\0", "\uFFFD")
      const app = given.app(scope, { reason: "a\0b" })
      const begun = Option.getOrThrow(yield* store.begin(scope, app))
      assert.strictEqual(clean(begun.reason), "a\uFFFDb")
      const ended = given.appStep(
        begun,
        AppTransition.Terminate({ reason: { code: "user_requested", sentence: "c\0" }, leaseExpiresAt: at(7000) })
      )
      assert.isTrue(yield* store.compareAndSet(scope, [ended]))
      assert.strictEqual(clean(Option.getOrThrow(yield* store.get(scope, app.name)).reason), "c\uFFFD")
      const reasons = (yield* eventsOf(scope)).map(({ reason }) => clean(reason))
      assert.deepStrictEqual(reasons, ["a\uFFFDb", "c\uFFFD"])
    })
}
