import { AccountId } from "@castellan/domain/identity/Account.ts"
import { ApiKeyId } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import { SecureRandom } from "effect/crypto"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { digest, keyOf, newOwner } from "./fixtures.ts"

export const keys: Clauses<IdentityStore> = {
  "a key is found by its digest with its account, whether or not it has expired": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const { account, scope } = yield* newOwner
      const [key, known] = [keyOf(account.id), digest()]
      yield* store.addKey(scope, key, known)
      assert.deepStrictEqual(yield* store.findKey(known), Option.some({ key, account }))
      assert.isTrue(Option.isNone(yield* store.findKey(digest())))
    }),

  "adding a key with a known digest does not replace the first key": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* newOwner, yield* newOwner]
      const [key, known] = [keyOf(one.account.id), digest()]
      yield* store.addKey(one.scope, key, known)
      yield* store.addKey(two.scope, keyOf(two.account.id), known)
      assert.deepStrictEqual(Option.getOrThrow(yield* store.findKey(known)).key, key)
      assert.deepStrictEqual(yield* store.listKeys(two.scope), [])
    }),

  "only the account's own keys are listed, newest first": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* newOwner, yield* newOwner]
      const keys = [keyOf(one.account.id, 1), keyOf(one.account.id, 2), keyOf(one.account.id, 3)]
      for (const key of [keys[1]!, keys[0]!, keys[2]!]) yield* store.addKey(one.scope, key, digest())
      yield* store.addKey(two.scope, keyOf(two.account.id), digest())
      assert.deepStrictEqual(yield* store.listKeys(one.scope), keys.toReversed())
    }),

  "a key is added for the scope's account even if it names another": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* newOwner, yield* newOwner]
      const known = digest()
      yield* store.addKey(one.scope, keyOf(two.account.id), known)
      assert.strictEqual(Option.getOrThrow(yield* store.findKey(known)).account.id, one.account.id)
    }),

  "a key is removed once, and only in the scope of its account": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* newOwner, yield* newOwner]
      const [key, known] = [keyOf(one.account.id), digest()]
      yield* store.addKey(one.scope, key, known)
      assert.isFalse(yield* store.removeKey(two.scope, key.id))
      assert.isTrue(Option.isSome(yield* store.findKey(known)))
      assert.isTrue(yield* store.removeKey(one.scope, key.id))
      assert.isFalse(yield* store.removeKey(one.scope, key.id))
      assert.isTrue(Option.isNone(yield* store.findKey(known)))
    }),

  "findExisting returns the given keys and accounts that are stored": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* newOwner, yield* newOwner]
      const [kept, removed, theirs] = [keyOf(one.account.id), keyOf(one.account.id), keyOf(two.account.id)]
      for (const key of [kept, removed]) yield* store.addKey(one.scope, key, digest())
      yield* store.addKey(two.scope, theirs, digest())
      yield* store.removeKey(one.scope, removed.id)
      const unknown = AccountId.make(SecureRandom.uuidV4Unsafe())
      const found = yield* store.findExisting({
        keys: [kept.id, removed.id, kept.id, ApiKeyId.make("key_unknown")],
        accounts: [one.account.id, unknown, one.account.id]
      })
      assert.deepStrictEqual(found, { keys: new Set([kept.id]), accounts: new Set([one.account.id]) })
      const all = { keys: [kept.id, theirs.id], accounts: [one.account.id, two.account.id] }
      assert.deepStrictEqual(yield* store.findExisting(all), {
        keys: new Set(all.keys),
        accounts: new Set(all.accounts)
      })
      const nothing = yield* store.findExisting({ keys: [], accounts: [] })
      assert.deepStrictEqual([nothing.keys.size, nothing.accounts.size], [0, 0])
      const many = Array.from({ length: 5000 }, (_, at) => ApiKeyId.make(`key_unknown_${at}`))
      const amongMany = yield* store.findExisting({ keys: [...many, kept.id], accounts: [] })
      assert.deepStrictEqual(amongMany.keys, new Set([kept.id]))
    }),

  "the last use of a key is recorded and never moves back": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const { account, scope } = yield* newOwner
      const [key, known] = [keyOf(account.id), digest()]
      yield* store.addKey(scope, key, known)
      const lastUse = Effect.map(store.findKey(known), (found) => Option.getOrThrow(found).key.lastUsedAt)
      yield* store.recordUse(key.id, at(5000))
      assert.deepStrictEqual(yield* lastUse, at(5000))
      yield* store.recordUse(key.id, at(4000))
      assert.deepStrictEqual(yield* lastUse, at(5000))
    })
}
