import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { ApiKey, ApiKeyId, KeyDigest } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer, Option } from "effect"
import { SecureRandom } from "effect/crypto"
import * as given from "../given.ts"
import { holds, type Promises } from "./holds.ts"

const digest = () => KeyDigest.make(SecureRandom.uuidV4Unsafe().replaceAll("-", "").repeat(2))
const at = (millis: number) => DateTime.makeUnsafe(millis)

const keyOf = (account: AccountId, createdAt = 1000) =>
  new ApiKey({
    id: ApiKeyId.make(`key_${SecureRandom.uuidV4Unsafe()}`),
    account,
    name: "a 'key' with ünïcode",
    createdAt: at(createdAt),
    lastUsedAt: null,
    expiresAt: at(1_700_000_000_123)
  })

const owner = Effect.gen(function* () {
  const account = yield* given.account()
  return { account, scope: AccountScope.ofOwner({ account: account.id }) }
})

export const promises: Promises<IdentityStore> = {
  "an account is found as it was written, and no other": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const account = new Account({
        id: AccountId.make(SecureRandom.uuidV4Unsafe()),
        name: "Ada",
        email: "ada@example.com",
        platformAdmin: false,
        createdAt: at(1_700_000_000_001)
      })
      yield* store.addAccount(account)
      assert.deepStrictEqual(yield* store.findAccount(account.id), Option.some(account))
      assert.isTrue(Option.isNone(yield* store.findAccount(AccountId.make(SecureRandom.uuidV4Unsafe()))))
    }),

  "an account that is written twice stays as it was first": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const account = yield* given.account()
      yield* store.addAccount(new Account({ ...account, name: "somebody else" }))
      assert.deepStrictEqual(yield* store.findAccount(account.id), Option.some(account))
    }),

  "the platform admin is the oldest account that is one": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const admin = (createdAt: number) =>
        new Account({
          id: AccountId.make(SecureRandom.uuidV4Unsafe()),
          name: null,
          email: null,
          platformAdmin: true,
          createdAt: at(createdAt)
        })
      const old = admin(1)
      yield* store.addAccount(admin(5))
      yield* store.addAccount(old)
      yield* given.account()
      assert.deepStrictEqual(yield* store.findPlatformAdmin, Option.some(old))
    }),

  "a key is found by its digest, with its account, expired or not": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const { account, scope } = yield* owner
      const [key, known] = [keyOf(account.id), digest()]
      yield* store.addKey(scope, key, known)
      assert.deepStrictEqual(yield* store.findKey(known), Option.some({ key, account }))
      assert.isTrue(Option.isNone(yield* store.findKey(digest())))
    }),

  "a digest that is known keeps its first key": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
      const [key, known] = [keyOf(one.account.id), digest()]
      yield* store.addKey(one.scope, key, known)
      yield* store.addKey(two.scope, keyOf(two.account.id), known)
      assert.deepStrictEqual(Option.getOrThrow(yield* store.findKey(known)).key, key)
      assert.deepStrictEqual(yield* store.listKeys(two.scope), [])
    }),

  "an account's keys are listed newest first, and nobody else's": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
      const keys = [keyOf(one.account.id, 1), keyOf(one.account.id, 2), keyOf(one.account.id, 3)]
      for (const key of [keys[1]!, keys[0]!, keys[2]!]) yield* store.addKey(one.scope, key, digest())
      yield* store.addKey(two.scope, keyOf(two.account.id), digest())
      assert.deepStrictEqual(yield* store.listKeys(one.scope), keys.toReversed())
    }),

  "a key is written for the scope's account, whatever it says of itself": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
      const known = digest()
      yield* store.addKey(one.scope, keyOf(two.account.id), known)
      assert.strictEqual(Option.getOrThrow(yield* store.findKey(known)).account.id, one.account.id)
    }),

  "a key is removed by its account, once, and by nobody else": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
      const [key, known] = [keyOf(one.account.id), digest()]
      yield* store.addKey(one.scope, key, known)
      assert.isFalse(yield* store.removeKey(two.scope, key.id))
      assert.isTrue(Option.isSome(yield* store.findKey(known)))
      assert.isTrue(yield* store.removeKey(one.scope, key.id))
      assert.isFalse(yield* store.removeKey(one.scope, key.id))
      assert.isTrue(Option.isNone(yield* store.findKey(known)))
    }),

  "a NUL in a text breaks nothing": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const id = AccountId.make(SecureRandom.uuidV4Unsafe())
      const scope = AccountScope.ofOwner({ account: id })
      const texts = { name: "a\0b", email: "\0@example.com" }
      yield* store.addAccount(new Account({ id, ...texts, platformAdmin: false, createdAt: at(1) }))
      const account = Option.getOrThrow(yield* store.findAccount(id))
      assert.deepStrictEqual(
        [account.name, account.email].map((text) => text?.replaceAll("\0", "\uFFFD")),
        ["a\uFFFDb", "\uFFFD@example.com"]
      )
      yield* store.addKey(scope, new ApiKey({ ...keyOf(id), name: "a\0b" }), digest())
      assert.strictEqual((yield* store.listKeys(scope))[0]?.name.replaceAll("\0", "\uFFFD"), "a\uFFFDb")
      assert.isFalse(yield* store.removeKey(scope, ApiKeyId.make("no\0ne")))
    }),

  "the last use of a key is recorded, and no earlier one after it": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const { account, scope } = yield* owner
      const [key, known] = [keyOf(account.id), digest()]
      yield* store.addKey(scope, key, known)
      const lastUse = Effect.map(store.findKey(known), (found) => Option.getOrThrow(found).key.lastUsedAt)
      yield* store.recordUse(key.id, at(5000))
      assert.deepStrictEqual(yield* lastUse, at(5000))
      yield* store.recordUse(key.id, at(4000))
      assert.deepStrictEqual(yield* lastUse, at(5000))
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<IdentityStore, E>) =>
  holds("IdentityStore", subject, layer, promises)
