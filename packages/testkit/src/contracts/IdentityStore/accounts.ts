import type { SharedOrganization } from "@castellan/domain/identity/AccessRule.ts"
import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { ApiKey, ApiKeyId } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import { SecureRandom } from "effect/crypto"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { digest, keyOf, newOwner, organizationOf, putMembership } from "./fixtures.ts"

interface Owned {
  readonly account: Account
}

const byText = <A>(values: ReadonlyArray<A>) => values.map((value) => JSON.stringify(value)).toSorted()

export const accounts: Clauses<IdentityStore> = {
  "an account is found as it was added": () =>
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

  "adding an account again does not change it": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const account = yield* given.account()
      yield* store.addAccount(new Account({ ...account, name: "somebody else" }))
      assert.deepStrictEqual(yield* store.findAccount(account.id), Option.some(account))
    }),

  "findPlatformAdmin returns the oldest platform admin": () =>
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

  "a text with a NUL character can be written": () =>
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

  "two accounts are tied by exactly the organizations that both belong to": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two, stranger] = [yield* newOwner, yield* newOwner, yield* newOwner]
      const first = yield* organizationOf(one.scope)
      const second = yield* organizationOf(one.scope)
      const foreign = yield* organizationOf(stranger.scope)
      yield* putMembership(first.scope, two.account.id, "member", "active")
      yield* putMembership(second.scope, two.account.id, "admin", "invited")
      yield* putMembership(foreign.scope, two.account.id, "member", "active")
      const expected: ReadonlyArray<readonly [Owned, Owned, ReadonlyArray<SharedOrganization>]> = [
        [
          one,
          two,
          [
            { role: "owner", status: "active", target: "active" },
            { role: "owner", status: "active", target: "invited" }
          ]
        ],
        [
          two,
          one,
          [
            { role: "member", status: "active", target: "active" },
            { role: "admin", status: "invited", target: "active" }
          ]
        ],
        [one, first, [{ role: "owner", status: "active", target: "organization" }]],
        [two, second, [{ role: "admin", status: "invited", target: "organization" }]],
        [one, stranger, []],
        [one, foreign, []],
        [first, one, []]
      ]
      for (const [actor, target, shared] of expected) {
        const ties = yield* store.relationshipBetween(actor.account.id, target.account.id)
        assert.deepStrictEqual([ties.targetExists, byText(ties.shared)], [true, byText(shared)])
      }
      const unknown = yield* store.relationshipBetween(one.account.id, AccountId.make(SecureRandom.uuidV4Unsafe()))
      assert.deepStrictEqual(unknown, { targetExists: false, shared: [] })
    })
}
