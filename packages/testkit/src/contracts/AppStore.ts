import { AppMove, type AppStep, told } from "@castellan/domain/app/AppLifecycle.ts"
import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore, type PlacedEvent } from "@castellan/domain/sandbox/EventStore.ts"
import type { SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer, Option } from "effect"
import * as given from "../given.ts"
import { holds, type Promises } from "./holds.ts"
import { assertUntouched } from "./untouched.ts"

const at = (millis: number) => DateTime.makeUnsafe(millis)

const hold = AppMove.Hold({ until: at(4000) })
const serve = AppMove.Serve({ expiresAt: at(5000) })
const sleep = AppMove.Sleep({ reason: null, lookAt: at(6000) })
const end = AppMove.End({ reason: null, until: at(7000) })
const forget = AppMove.Forget()

const atOnce = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.all(effects, { concurrency: "unbounded" })

/** Begins a new app and takes it so far; gives it as it is then. */
const begun = Effect.fnUntraced(function* (
  scope: AccountScope,
  moves: ReadonlyArray<AppMove> = [],
  more: Partial<AppSandbox> = {}
) {
  const store = yield* AppStore
  let app = given.app(scope, more)
  assert.deepStrictEqual(yield* store.begin(scope, app), Option.some(app))
  for (const move of moves) {
    const step = given.appStep(app, move)
    assert.isTrue(yield* store.take(scope, [step]))
    app = step.app
  }
  return app
})

/** Holds these of the account's apps to be stored so. */
const stand = Effect.fnUntraced(function* (scope: AccountScope, apps: ReadonlyArray<AppSandbox>) {
  const store = yield* AppStore
  for (const app of apps) assert.deepStrictEqual(yield* store.get(scope, app.name), Option.some(app))
})

/** What was told of the account's apps. */
const toldTo = (scope: AccountScope) =>
  Effect.flatMap(EventStore, (events) =>
    Effect.map(events.read(scope, null, 100), (read): ReadonlyArray<SandboxEvent> => read.map(({ event }) => event))
  )

export const promises: Promises<AppStore | EventStore | IdentityStore> = {
  "an app is found as it was begun, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const app = given.app(one, {
        version: 3,
        port: Port.make(65_535),
        createdAt: at(1_123),
        expiresAt: at(2_456),
        lookAt: at(3_001),
        reason: "därüm"
      })
      assert.isTrue(Option.isNone(yield* store.get(one, app.name)))
      assert.deepStrictEqual(yield* store.begin(one, app), Option.some(app))
      assert.deepStrictEqual(yield* store.get(one, app.name), Option.some(app))
      assert.isTrue(Option.isNone(yield* store.get(two, app.name)))
      yield* stand(two, [yield* begun(two)])
    }),

  "beginning a name twice gives back the row that stands": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const scope = yield* given.scope
      const app = yield* begun(scope)
      const others = Array.from({ length: 8 }, (_, i) => new AppSandbox({ ...app, port: Port.make(4000 + i) }))
      for (const stands of yield* atOnce(others.map((other) => store.begin(scope, other)))) {
        assert.deepStrictEqual(stands, Option.some(app))
      }
      const { app: ready } = given.appStep(app, serve)
      yield* store.take(scope, [given.appStep(app, serve)])
      yield* begun(scope)
      assert.deepStrictEqual(yield* store.begin(scope, app), Option.some(ready))
    }),

  "a name of another account is not given, and stays": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const app = yield* begun(one)
      const same = new AppSandbox({ ...app, account: two.account, port: Port.make(4000) })
      assert.isTrue(Option.isNone(yield* store.begin(two, same)))
      assert.deepStrictEqual(yield* store.listLive(two), [])
      const own = yield* begun(two)
      assert.isTrue(Option.isNone(yield* store.begin(two, same)))
      yield* stand(one, [app])
      assert.deepStrictEqual(yield* store.listLive(two), [own])
    }),

  "an app is begun for the scope's account, whatever it says of itself": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const app = given.app(two)
      const written = new AppSandbox({ ...app, account: one.account })
      assert.deepStrictEqual(yield* store.begin(one, app), Option.some(written))
      yield* stand(one, [written])
      assert.isTrue(Option.isNone(yield* store.get(two, app.name)))
      assert.deepStrictEqual(yield* toldTo(one), [told(written, app.createdAt)])
      assert.deepStrictEqual(yield* toldTo(two), [])
    }),

  "while one of an account's is starting no other begins and that one is given, however many begin at once": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (let round = 0; round < 3; round++) {
        const [scope, other] = [yield* given.scope, yield* given.scope]
        const theirs = yield* begun(other)
        const apps = Array.from({ length: 20 }, () => given.app(scope))
        const answers = yield* atOnce(apps.map((app) => store.begin(scope, app)))
        const [winner, ...others] = yield* store.listLive(scope)
        assert.deepStrictEqual(others, [])
        assert.deepInclude(apps, winner)
        for (const answer of answers) assert.deepStrictEqual(answer, Option.some(winner!))
        assert.deepStrictEqual(yield* toldTo(scope), [told(winner!, winner!.createdAt)])
        assert.deepStrictEqual(yield* store.listLive(other), [theirs])
      }
    }),

  "the next one begins as soon as the one before is no longer starting": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      for (const moves of [[serve], [serve, sleep], [end], [end, forget]]) {
        const scope = yield* given.scope
        const before = yield* begun(scope, moves)
        yield* stand(scope, [before, yield* begun(scope)])
      }
      for (let round = 0; round < 10; round++) {
        const scope = yield* given.scope
        const first = yield* begun(scope)
        const begins = () => atOnce(Array.from({ length: 5 }, () => store.begin(scope, given.app(scope))))
        const taking = store.take(scope, [given.appStep(first, serve)])
        const [some, isTaken, others] = yield* Effect.all([begins(), taking, begins()], { concurrency: "unbounded" })
        assert.isTrue(isTaken)
        const next = (yield* store.listLive(scope)).filter(({ state }) => state === "starting")
        assert.isAtMost(next.length, 1)
        for (const answer of [...some, ...others]) assert.deepInclude([first, ...next], Option.getOrThrow(answer))
      }
    }),

  "it is told whose an app is": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second] = [yield* begun(one), yield* begun(two, [end, forget])]
      assert.deepStrictEqual(yield* store.ownerOf(first.name), Option.some(one.account))
      assert.deepStrictEqual(yield* store.ownerOf(second.name), Option.some(two.account))
      assert.isTrue(Option.isNone(yield* store.ownerOf(given.app(one).name)))
    }),

  "active is the account's app that is ready or stopped, and no other": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      for (const moves of [[end, forget], [serve, end], []]) yield* begun(one, moves)
      assert.isTrue(Option.isNone(yield* store.active(one)))
      const ready = yield* begun(two, [serve])
      yield* begun(two)
      assert.deepStrictEqual(yield* store.active(two), Option.some(ready))
      assert.isTrue(Option.isNone(yield* store.active(one)))
      const stopped = given.appStep(ready, sleep)
      yield* store.take(two, [stopped])
      assert.deepStrictEqual(yield* store.active(two), Option.some(stopped.app))
      yield* store.take(two, [given.appStep(stopped.app, end)])
      assert.isTrue(Option.isNone(yield* store.active(two)))
    }),

  "live are the account's apps that have not ended, oldest first": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [scope, other] = [yield* given.scope, yield* given.scope]
      assert.deepStrictEqual(yield* store.listLive(scope), [])
      const ending = yield* begun(scope, [serve, end], { createdAt: at(3) })
      const ready = yield* begun(scope, [serve], { createdAt: at(1) })
      yield* begun(scope, [end, forget], { createdAt: at(2) })
      const starting = yield* begun(scope, [], { createdAt: at(2) })
      yield* begun(other, [], { createdAt: at(2) })
      assert.deepStrictEqual(yield* store.listLive(scope), [ready, starting, ending])
    }),

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

  "a write leaves every other app as it is": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      // Others at each version that a write names, of the account and of another.
      const others = [yield* begun(one, [end]), yield* begun(one, [end, hold]), yield* begun(two, [end])]
      const app = yield* begun(one, [end])
      const held = given.appStep(app, hold)
      const gone = given.appStep(held.app, forget)
      const rows = Object.fromEntries(others.map((row, i) => [`${i}`, store.get(AccountScope.ofOwner(row), row.name)]))
      yield* assertUntouched(rows, {
        begin: begun(one),
        take: store.take(one, [held]),
        "take of another step": store.take(one, [gone])
      })
      yield* stand(one, [gone.app])
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
    }),

  "that an app was begun and each of its steps that says so are told once, and nothing that was refused": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const app = yield* begun(one, [], { createdAt: at(1_001) })
      for (const scope of [one, two]) yield* store.begin(scope, app)
      const held = given.appStep(app, hold)
      const served = given.appStep(held.app, serve, at(1_002))
      const used = given.appStep(served.app, AppMove.Serve({ expiresAt: at(9000) }))
      const slept = given.appStep(used.app, AppMove.Sleep({ reason: "it's late", lookAt: at(6000) }), at(1_003))
      const ended = given.appStep(slept.app, AppMove.End({ reason: "it's över", until: at(7000) }), at(1_004))
      const forgotten = given.appStep(ended.app, forget, at(1_005))
      for (const step of [held, served, used, slept, ended, forgotten]) {
        for (const scope of [two, one, one]) yield* store.take(scope, [step])
      }
      yield* store.claimDue(at(-1_000_000), at(-1_000_000), 1)
      assert.deepStrictEqual(yield* toldTo(one), [
        told(app, at(1_001)),
        served.event!,
        slept.event!,
        ended.event!,
        forgotten.event!
      ])
      assert.deepStrictEqual(yield* toldTo(two), [])
    }),

  "of what is told of many apps at once a reader that goes on meanwhile misses none, and each story is in its order":
    () =>
      Effect.gen(function* () {
        const store = yield* AppStore
        const events = yield* EventStore
        const scope = yield* given.scope
        const ending: Array<AppSandbox> = []
        for (let i = 0; i < 40; i++) ending.push(yield* begun(scope, [end]))
        const endings = ending.map((app) => store.take(scope, [given.appStep(app, forget)]))
        // Who is given another's app ends that one; of many one does.
        const life = Effect.gen(function* () {
          const app = Option.getOrThrow(yield* store.begin(scope, given.app(scope)))
          const step = given.appStep(app, end)
          const isEnding = yield* store.take(scope, [step])
          return !isEnding || (yield* store.take(scope, [given.appStep(step.app, forget)]))
        })
        const lives = Array.from({ length: 20 }, () => life)
        let writing = true
        const read: Array<PlacedEvent> = []
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
      }),

  "due are the apps of all accounts whose look has come, the longest waiting first, as many as asked for": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const dueAt = (lookAt: number) =>
        Effect.flatMap(given.scope, (scope) => begun(scope, [], { lookAt: at(lookAt), version: 3, reason: "it's due" }))
      // Long before what other promises write, so that theirs don't count.
      const [last, later, first, second] = [
        yield* dueAt(-1000),
        yield* dueAt(-999),
        yield* dueAt(-3000),
        yield* dueAt(-2000)
      ]
      const resting = yield* begun(yield* given.scope)
      const until = at(5_000_000)
      const claimed = [first, second, last].map((app) => new AppSandbox({ ...app, lookAt: until }))
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), claimed.slice(0, 2))
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), claimed.slice(2))
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), [])
      for (const app of [...claimed, later, resting]) yield* stand(AccountScope.ofOwner(app), [app])
      assert.lengthOf(yield* store.claimDue(at(-999), until, 1), 1)
    }),

  "each due app is given to one of many that claim at once": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const names = new Set<SandboxName>()
      for (let i = 0; i < 50; i++) {
        const app = yield* begun(yield* given.scope, [], { lookAt: at(-10_000 - i) })
        names.add(app.name)
      }
      const claims = Effect.gen(function* () {
        const got: Array<SandboxName> = []
        for (;;) {
          const due = yield* store.claimDue(at(-10_000), at(5_000_000), 4)
          if (due.length === 0) return got
          got.push(...due.map(({ name }) => name))
        }
      })
      const got = (yield* atOnce(Array.from({ length: 10 }, () => claims))).flat()
      assert.lengthOf(got, 50)
      assert.deepStrictEqual(new Set(got), names)
    }),

  "a NUL in a text breaks nothing": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const scope = yield* given.scope
      const clean = (text: string | null | undefined) => text?.replaceAll("\0", "\uFFFD")
      const app = given.app(scope, { reason: "a\0b" })
      const begun = Option.getOrThrow(yield* store.begin(scope, app))
      assert.strictEqual(clean(begun.reason), "a\uFFFDb")
      const ended = given.appStep(begun, AppMove.End({ reason: "c\0", until: at(7000) }))
      assert.isTrue(yield* store.take(scope, [ended]))
      assert.strictEqual(clean(Option.getOrThrow(yield* store.get(scope, app.name)).reason), "c\uFFFD")
      const reasons = (yield* toldTo(scope)).map(({ reason }) => clean(reason))
      assert.deepStrictEqual(reasons, ["a\uFFFDb", "c\uFFFD"])
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<AppStore | EventStore | IdentityStore, E>) =>
  holds("AppStore", subject, layer, promises)
