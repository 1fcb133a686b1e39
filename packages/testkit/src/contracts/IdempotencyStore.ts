import {
  answersKept,
  cutOffAfter,
  IdempotencyKey,
  IdempotencyStore,
  SavedAnswer
} from "@castellan/domain/identity/IdempotencyStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer } from "effect"
import * as given from "../given.ts"
import { holds, type Promises } from "./holds.ts"

const key = IdempotencyKey.make("a key")
const start = 1_800_000_000_000
const asked = (after = 0, request = "one", nonce = `nonce ${after}`) => ({
  request,
  nonce,
  at: DateTime.makeUnsafe(start + after)
})
const answer = new SavedAnswer({ status: 201, body: '{"€":1}' })

export const promises: Promises<IdempotencyStore | IdentityStore> = {
  "the first to ask is told so, with its nonce": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      assert.deepStrictEqual({ ...(yield* store.begin(scope, key, asked())) }, { _tag: "First", nonce: "nonce 0" })
    }),

  "of many that ask at once one is first and the others find it in flight": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      const all = yield* Effect.all(
        Array.from({ length: 10 }, () => store.begin(scope, key, asked())),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(all.map(({ _tag }) => _tag).sort(), ["First", ...Array<string>(9).fill("InFlight")])
    }),

  "who asks after the answer gets it": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      yield* store.answer(scope, key, answer)
      const again = yield* store.begin(scope, key, asked(answersKept - 1))
      assert.deepStrictEqual({ ...again }, { _tag: "Answered", answer })
    }),

  "another request under the key is told so, answered or not": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      assert.strictEqual((yield* store.begin(scope, key, asked(1, "two")))._tag, "Reused")
      yield* store.answer(scope, key, answer)
      assert.strictEqual((yield* store.begin(scope, key, asked(2, "two")))._tag, "Reused")
    }),

  "a request that was cut off may be begun again, by one, with its first nonce": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      assert.strictEqual((yield* store.begin(scope, key, asked(cutOffAfter - 1)))._tag, "InFlight")
      const late = cutOffAfter + 1
      assert.strictEqual((yield* store.begin(scope, key, asked(late, "two")))._tag, "Reused")
      const all = yield* Effect.all(
        Array.from({ length: 5 }, () => store.begin(scope, key, asked(late))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(all.map(({ _tag }) => _tag).sort(), ["First", ...Array<string>(4).fill("InFlight")])
      assert.deepStrictEqual({ ...all.find(({ _tag }) => _tag === "First") }, { _tag: "First", nonce: "nonce 0" })
    }),

  "a request that was refused is forgotten": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      yield* store.forget(scope, key)
      const again = yield* store.begin(scope, key, asked(1, "two"))
      assert.deepStrictEqual({ ...again }, { _tag: "First", nonce: "nonce 1" })
    }),

  "an answer is forgotten when its time is over": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      yield* store.answer(scope, key, answer)
      const again = yield* store.begin(scope, key, asked(answersKept + 1, "two"))
      assert.deepStrictEqual({ ...again }, { _tag: "First", nonce: `nonce ${answersKept + 1}` })
      assert.strictEqual((yield* store.begin(scope, key, asked(answersKept + 2, "two")))._tag, "InFlight")
    }),

  "a key is its own account's affair": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      yield* store.begin(one, key, asked())
      yield* store.answer(one, key, answer)
      assert.strictEqual((yield* store.begin(two, key, asked(1, "two")))._tag, "First")
      yield* store.forget(two, key)
      assert.strictEqual((yield* store.begin(one, key, asked(2)))._tag, "Answered")
    }),

  "sweeping forgets what is old, and counts it": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      const old = IdempotencyKey.make("old")
      yield* store.sweep(DateTime.makeUnsafe(2_000_000))
      yield* store.begin(scope, old, { ...asked(), at: DateTime.makeUnsafe(1_000_000) })
      yield* store.begin(scope, key, asked())
      assert.strictEqual(yield* store.sweep(DateTime.makeUnsafe(2_000_000)), 1)
      assert.strictEqual((yield* store.begin(scope, old, asked(1, "two")))._tag, "First")
      assert.strictEqual((yield* store.begin(scope, key, asked(1)))._tag, "InFlight")
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<IdempotencyStore | IdentityStore, E>) =>
  holds("IdempotencyStore", subject, layer, promises)
