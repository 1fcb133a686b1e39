/** The contract of IdempotencyStore: what every store of idempotency keys guarantees. */
import {
  responseRetentionMs,
  IdempotencyKey,
  IdempotencyStore,
  keyLeaseMs,
  SavedResponse
} from "@castellan/domain/identity/IdempotencyStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer } from "effect"
import * as given from "../../given.ts"
import { assertUnchanged } from "../assertUnchanged.ts"
import { type Clauses, runContract } from "../contract.ts"

const key = IdempotencyKey.make("a key")

const start = 1_800_000_000_000

const at = (after: number) => DateTime.makeUnsafe(start + after)

const asked = (after = 0, request = "one", nonce = `nonce ${after}`) => ({
  request,
  nonce,
  at: at(after)
})

const answer = new SavedResponse({ status: 201, body: '{"€":1}' })

export const clauses: Clauses<IdempotencyStore | IdentityStore> = {
  "the first request under a key is First and gets its own nonce": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      assert.deepStrictEqual({ ...(yield* store.begin(scope, key, asked())) }, { _tag: "First", nonce: "nonce 0" })
    }),

  "of several concurrent requests one is First and the others find it InFlight": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      const all = yield* Effect.all(
        Array.from({ length: 10 }, () => store.begin(scope, key, asked())),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(all.map(({ _tag }) => _tag).sort(), ["First", ...Array<string>(9).fill("InFlight")])
    }),

  "a request after the answer gets the saved answer": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      yield* store.answer(scope, key, at(0), answer)
      const again = yield* store.begin(scope, key, asked(responseRetentionMs))
      assert.deepStrictEqual({ ...again }, { _tag: "Completed", answer })
    }),

  "a different request under the key is Reused, before and after the answer": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      assert.strictEqual((yield* store.begin(scope, key, asked(1, "two")))._tag, "Reused")
      yield* store.answer(scope, key, at(0), answer)
      assert.strictEqual((yield* store.begin(scope, key, asked(2, "two")))._tag, "Reused")
    }),

  "a request whose lease has expired can be begun again once, with its first nonce": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      assert.strictEqual((yield* store.begin(scope, key, asked(keyLeaseMs - 1)))._tag, "InFlight")
      const late = keyLeaseMs + 1
      assert.strictEqual((yield* store.begin(scope, key, asked(late, "two")))._tag, "Reused")
      const all = yield* Effect.all(
        Array.from({ length: 5 }, () => store.begin(scope, key, asked(late))),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(all.map(({ _tag }) => _tag).sort(), ["First", ...Array<string>(4).fill("InFlight")])
      assert.deepStrictEqual({ ...all.find(({ _tag }) => _tag === "First") }, { _tag: "First", nonce: "nonce 0" })
    }),

  "a request that was begun again expires with its first attempt": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      const last = yield* store.begin(scope, key, asked(responseRetentionMs))
      assert.deepStrictEqual({ ...last }, { _tag: "First", nonce: "nonce 0" })
      const anew = yield* store.begin(scope, key, asked(responseRetentionMs + 1, "two"))
      assert.deepStrictEqual({ ...anew }, { _tag: "First", nonce: `nonce ${responseRetentionMs + 1}` })
    }),

  "a request is InFlight as long as its lease is renewed": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      const other = IdempotencyKey.make("another key")
      yield* store.begin(scope, key, asked())
      yield* store.begin(scope, other, asked())
      assert.isTrue(yield* store.renew(scope, key, at(0), at(keyLeaseMs - 1)))
      assert.isTrue(yield* store.renew(scope, key, at(keyLeaseMs - 1), at(2 * keyLeaseMs - 2)))
      assert.strictEqual((yield* store.begin(scope, key, asked(3 * keyLeaseMs - 3)))._tag, "InFlight")
      assert.strictEqual((yield* store.begin(scope, other, asked(3 * keyLeaseMs - 3)))._tag, "First")
      assert.strictEqual((yield* store.begin(scope, key, asked(3 * keyLeaseMs)))._tag, "First")
    }),

  "an attempt that lost its key cannot renew the lease": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      yield* store.begin(scope, key, asked(keyLeaseMs + 1))
      assert.isFalse(yield* store.renew(scope, key, at(0), at(keyLeaseMs + 2)))
      assert.isTrue(yield* store.renew(scope, key, at(keyLeaseMs + 1), at(keyLeaseMs + 2)))
    }),

  "an attempt that lost its key can neither answer nor forget the request": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      yield* store.begin(scope, key, asked(keyLeaseMs + 1))
      yield* store.answer(scope, key, at(0), new SavedResponse({ status: 500, body: "late" }))
      yield* store.forget(scope, key, at(0))
      assert.strictEqual((yield* store.begin(scope, key, asked(keyLeaseMs + 2)))._tag, "InFlight")
      yield* store.answer(scope, key, at(keyLeaseMs + 1), answer)
      const again = yield* store.begin(scope, key, asked(keyLeaseMs + 3))
      assert.deepStrictEqual({ ...again }, { _tag: "Completed", answer })
    }),

  "a forgotten request frees its key": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      yield* store.forget(scope, key, at(0))
      const again = yield* store.begin(scope, key, asked(1, "two"))
      assert.deepStrictEqual({ ...again }, { _tag: "First", nonce: "nonce 1" })
    }),

  "an answer expires": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      yield* store.begin(scope, key, asked())
      yield* store.answer(scope, key, at(0), answer)
      const again = yield* store.begin(scope, key, asked(responseRetentionMs + 1, "two"))
      assert.deepStrictEqual({ ...again }, { _tag: "First", nonce: `nonce ${responseRetentionMs + 1}` })
      assert.strictEqual((yield* store.begin(scope, key, asked(responseRetentionMs + 2, "two")))._tag, "InFlight")
    }),

  "accounts do not share keys": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      yield* store.begin(one, key, asked())
      yield* store.answer(one, key, at(0), answer)
      assert.strictEqual((yield* store.begin(two, key, asked(1, "two")))._tag, "First")
      yield* store.forget(two, key, at(1))
      assert.strictEqual((yield* store.begin(one, key, asked(2)))._tag, "Completed")
    }),

  "a write does not change other keys of the account or the same key of another account": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [answered, inFlight] = [IdempotencyKey.make("answered"), IdempotencyKey.make("in flight")]
      const others = [
        [one, answered],
        [one, inFlight],
        [two, key],
        [two, answered],
        [two, inFlight]
      ] as const
      const theirs = new SavedResponse({ status: 200, body: "theirs" })
      for (const [scope, key] of others) yield* store.begin(scope, key, asked())
      for (const [scope, key] of others) if (key !== inFlight) yield* store.answer(scope, key, at(0), theirs)
      // A repeated begin changes nothing while the lease is valid or the answer is kept.
      const rows = Object.fromEntries(
        others.map(([scope, key]) => [
          `${scope === one ? "own" : "foreign"}: ${key}`,
          Effect.map(store.begin(scope, key, asked(1)), (found) => ({ ...found }))
        ])
      )
      yield* assertUnchanged(rows, {
        "begin of a new request": store.begin(one, key, asked()),
        renew: store.renew(one, key, at(0), at(1)),
        "begin of one that was cut off": store.begin(one, key, asked(keyLeaseMs + 2)),
        answer: store.answer(one, key, at(keyLeaseMs + 2), answer),
        "begin of one that is forgotten": store.begin(one, key, asked(responseRetentionMs + 1)),
        forget: store.forget(one, key, at(responseRetentionMs + 1))
      })
    }),

  "a sweep deletes old keys and returns their number": () =>
    Effect.gen(function* () {
      const store = yield* IdempotencyStore
      const scope = yield* given.scope
      const old = IdempotencyKey.make("old")
      yield* store.sweep(DateTime.makeUnsafe(2_000_000))
      yield* store.begin(scope, old, { ...asked(), at: DateTime.makeUnsafe(1_000_000) })
      const kept = IdempotencyKey.make("kept")
      yield* store.begin(scope, kept, { ...asked(), at: DateTime.makeUnsafe(2_000_000) })
      yield* store.begin(scope, key, asked())
      assert.strictEqual(yield* store.sweep(DateTime.makeUnsafe(2_000_000)), 1)
      const again = { ...asked(), at: DateTime.makeUnsafe(2_000_001) }
      assert.strictEqual((yield* store.begin(scope, kept, again))._tag, "InFlight")
      assert.strictEqual((yield* store.begin(scope, old, asked(1, "two")))._tag, "First")
      assert.strictEqual((yield* store.begin(scope, key, asked(1)))._tag, "InFlight")
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<IdempotencyStore | IdentityStore, E>) =>
  runContract("IdempotencyStore", subject, layer, { clauses })
