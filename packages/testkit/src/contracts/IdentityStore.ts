import type { Tie } from "@castellan/domain/identity/AccessRule.ts"
import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { ApiKey, ApiKeyId, KeyDigest } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore, type MembersSeen, type Standing } from "@castellan/domain/identity/IdentityStore.ts"
import { Membership } from "@castellan/domain/identity/Membership.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer, Option, Result } from "effect"
import { SecureRandom } from "effect/crypto"
import * as given from "../given.ts"
import { holds, type Promises } from "./holds.ts"
import { assertUntouched } from "./untouched.ts"

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

interface Owned {
  readonly account: Account
}

const organizationAccount = (createdAt: number) =>
  new Account({
    id: AccountId.make(SecureRandom.uuidV4Unsafe()),
    name: "Lovelace & Söhne",
    email: null,
    platformAdmin: false,
    createdAt: at(createdAt)
  })

/** A new organization of the scope's account, and the scope of the organization itself. */
const organizationOf = Effect.fnUntraced(function* (scope: AccountScope, createdAt = 1000) {
  const account = organizationAccount(createdAt)
  yield* (yield* IdentityStore).addOrganization(scope, account)
  return { account, scope: AccountScope.ofOwner({ account: account.id }) }
})

const stands = (standing: Standing) => () => Result.succeed(Option.some(standing))

/** Writes a membership of the organization, whatever stands. */
const put = Effect.fnUntraced(function* (
  organization: AccountScope,
  member: AccountId,
  role: Standing["role"],
  status: Standing["status"],
  createdAt = 2000
) {
  const store = yield* IdentityStore
  const change = { actor: member, member, at: at(createdAt), decide: stands({ role, status }) }
  return Option.getOrThrow(yield* store.changeMember(organization, change))
})

const byText = <A>(values: ReadonlyArray<A>) => values.map((value) => JSON.stringify(value)).toSorted()

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

  "of the keys and accounts that are asked for, those that are stored are found": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
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
    }),

  "two accounts are tied by every organization that both have a part in, and by no other": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two, stranger] = [yield* owner, yield* owner, yield* owner]
      const first = yield* organizationOf(one.scope)
      const second = yield* organizationOf(one.scope)
      const foreign = yield* organizationOf(stranger.scope)
      yield* put(first.scope, two.account.id, "member", "active")
      yield* put(second.scope, two.account.id, "admin", "invited")
      yield* put(foreign.scope, two.account.id, "member", "active")
      const expected: ReadonlyArray<readonly [Owned, Owned, ReadonlyArray<Tie>]> = [
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
        const ties = yield* store.tiesBetween(actor.account.id, target.account.id)
        assert.deepStrictEqual([ties.targetExists, byText(ties.shared)], [true, byText(shared)])
      }
      const nobody = yield* store.tiesBetween(one.account.id, AccountId.make(SecureRandom.uuidV4Unsafe()))
      assert.deepStrictEqual(nobody, { targetExists: false, shared: [] })
    }),

  "an organization is written with its first owner": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const { account, scope } = yield* owner
      const made = yield* organizationOf(scope, 1_700_000_000_001)
      assert.deepStrictEqual(yield* store.findAccount(made.account.id), Option.some(made.account))
      assert.deepStrictEqual(yield* store.listMembers(made.scope), [
        new Membership({
          organization: made.account.id,
          account: account.id,
          role: "owner",
          status: "active",
          createdAt: made.account.createdAt
        })
      ])
    }),

  "an organization whose id is known changes nothing": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
      const made = yield* organizationOf(one.scope)
      yield* store.addOrganization(two.scope, new Account({ ...made.account, name: "another" }))
      yield* store.addOrganization(two.scope, one.account)
      assert.deepStrictEqual(yield* store.findAccount(made.account.id), Option.some(made.account))
      assert.deepStrictEqual(
        (yield* store.listMembers(made.scope)).map(({ account }) => account),
        [one.account.id]
      )
      assert.deepStrictEqual(yield* store.listMembers(one.scope), [])
    }),

  "organizations are listed in the order they came to the account, and nobody else's": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
      const own = yield* organizationOf(one.scope, 3000)
      const [later, earlier] = [yield* organizationOf(two.scope, 1), yield* organizationOf(two.scope, 1)]
      yield* organizationOf(two.scope, 2000)
      const invited = yield* put(later.scope, one.account.id, "admin", "invited", 4000)
      const active = yield* put(earlier.scope, one.account.id, "member", "active", 2000)
      assert.deepStrictEqual(
        (yield* store.listOrganizations(one.scope)).map(({ organization, membership: { role, status } }) => [
          organization,
          role,
          status
        ]),
        [
          [earlier.account, active.role, active.status],
          [own.account, "owner", "active"],
          [later.account, invited.role, invited.status]
        ]
      )
    }),

  "a membership is found by its account and its organization": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
      const [first, second] = [yield* organizationOf(one.scope), yield* organizationOf(one.scope)]
      const membership = yield* put(first.scope, two.account.id, "admin", "invited")
      assert.deepStrictEqual(yield* store.findMembership(two.scope, first.account.id), Option.some(membership))
      assert.isTrue(Option.isNone(yield* store.findMembership(two.scope, second.account.id)))
      assert.isTrue(Option.isNone(yield* store.findMembership(first.scope, two.account.id)))
    }),

  "members are listed in the order they came, of the scope's organization only": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two, three] = [yield* owner, yield* owner, yield* owner]
      const [made, other] = [yield* organizationOf(one.scope), yield* organizationOf(one.scope)]
      const last = yield* put(made.scope, two.account.id, "member", "active", 3000)
      const middle = yield* put(made.scope, three.account.id, "admin", "invited", 2000)
      yield* put(other.scope, three.account.id, "admin", "invited", 2000)
      const first = Option.getOrThrow(yield* store.findMembership(one.scope, made.account.id))
      assert.deepStrictEqual(yield* store.listMembers(made.scope), [first, middle, last])
      assert.deepStrictEqual(yield* store.listMembers(two.scope), [])
    }),

  "an invitation is accepted by its account, again and again, and by nobody else": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two, three] = [yield* owner, yield* owner, yield* owner]
      const made = yield* organizationOf(one.scope)
      const invited = yield* put(made.scope, two.account.id, "admin", "invited")
      assert.isTrue(Option.isNone(yield* store.acceptMembership(three.scope, made.account.id)))
      assert.deepStrictEqual(yield* store.findMembership(two.scope, made.account.id), Option.some(invited))
      const active = new Membership({ ...invited, status: "active" })
      for (let i = 0; i < 2; i++) {
        assert.deepStrictEqual(yield* store.acceptMembership(two.scope, made.account.id), Option.some(active))
      }
      assert.deepStrictEqual(yield* store.findMembership(two.scope, made.account.id), Option.some(active))
    }),

  "a membership comes to what was decided about what stood": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* owner, yield* owner]
      const made = yield* organizationOf(one.scope)
      // Neither another role, nor an invitation, nor an owner of another organization counts as an owner.
      yield* put(made.scope, (yield* owner).account.id, "admin", "active")
      yield* put(made.scope, (yield* owner).account.id, "member", "active")
      yield* put(made.scope, (yield* owner).account.id, "owner", "invited")
      yield* put((yield* organizationOf(one.scope)).scope, (yield* owner).account.id, "owner", "active")
      const seen: Array<MembersSeen> = []
      const deciding = (standing: Option.Option<Standing>) => ({
        actor: one.account.id,
        member: two.account.id,
        at: at(2000),
        decide: (stood: MembersSeen) => {
          seen.push(stood)
          return Result.succeed(standing)
        }
      })
      const boss = yield* store.findMembership(one.scope, made.account.id)
      const owners: Standing = { role: "owner", status: "active" }
      const member = yield* store.changeMember(made.scope, deciding(Option.some({ role: "admin", status: "invited" })))
      const second = yield* store.changeMember(made.scope, deciding(Option.some(owners)))
      assert.deepStrictEqual(yield* store.findMembership(two.scope, made.account.id), second)
      assert.deepStrictEqual(yield* store.changeMember(made.scope, deciding(Option.none())), Option.none())
      assert.deepStrictEqual(yield* store.changeMember(made.scope, deciding(Option.none())), Option.none())
      assert.deepStrictEqual(seen, [
        { actor: boss, member: Option.none(), owners: 1 },
        { actor: boss, member, owners: 1 },
        { actor: boss, member: second, owners: 2 },
        { actor: boss, member: Option.none(), owners: 1 }
      ])
      assert.isTrue(Option.isNone(yield* store.findMembership(two.scope, made.account.id)))
    }),

  "a membership that stands keeps its date, whoever it is of": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const made = yield* organizationOf((yield* owner).scope)
      const nobody = AccountId.make(SecureRandom.uuidV4Unsafe())
      yield* put(made.scope, nobody, "member", "invited", 2000)
      const changed = yield* put(made.scope, nobody, "admin", "active", 3000)
      assert.deepStrictEqual(
        changed,
        new Membership({
          organization: made.account.id,
          account: nobody,
          role: "admin",
          status: "active",
          createdAt: at(2000)
        })
      )
      assert.deepStrictEqual((yield* store.listMembers(made.scope))[1], changed)
    }),

  "a change that is decided against changes nothing": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const { account, scope } = yield* owner
      const made = yield* organizationOf(scope)
      const change = { actor: account.id, member: account.id, at: at(2000), decide: () => Result.fail("no") }
      assert.strictEqual(yield* Effect.flip(store.changeMember(made.scope, change)), "no")
      assert.strictEqual((yield* store.listMembers(made.scope)).length, 1)
    }),

  "a write leaves every other key and membership as it is": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two, stranger] = [yield* owner, yield* owner, yield* owner]
      const [first, second] = [yield* organizationOf(one.scope), yield* organizationOf(one.scope)]
      const foreign = yield* organizationOf(stranger.scope)
      for (const { scope } of [first, second, foreign]) yield* put(scope, two.account.id, "member", "invited")
      yield* put(first.scope, stranger.account.id, "member", "invited")
      const [key, kept, theirs] = [keyOf(one.account.id), keyOf(one.account.id), keyOf(two.account.id)]
      const [digestOfKey, digestOfKept, digestOfTheirs] = [digest(), digest(), digest()]
      yield* store.addKey(one.scope, key, digestOfKey)
      yield* store.addKey(one.scope, kept, digestOfKept)
      yield* store.addKey(two.scope, theirs, digestOfTheirs)
      const rows = {
        "another key of the account": store.findKey(digestOfKept),
        "a key of another account": store.findKey(digestOfTheirs),
        "the member in another organization": store.findMembership(two.scope, second.account.id),
        "the member in a stranger's organization": store.findMembership(two.scope, foreign.account.id),
        "another member": store.findMembership(stranger.scope, first.account.id),
        "the owner": store.findMembership(one.scope, first.account.id)
      }
      const removal = { actor: one.account.id, member: two.account.id, at: at(3000) }
      yield* assertUntouched(rows, {
        recordUse: store.recordUse(key.id, at(5000)),
        removeKey: store.removeKey(one.scope, key.id),
        acceptMembership: store.acceptMembership(two.scope, first.account.id),
        changeMember: put(first.scope, two.account.id, "admin", "active"),
        "changeMember that removes": store.changeMember(first.scope, {
          ...removal,
          decide: () => Result.succeed(Option.none())
        })
      })
      assert.isTrue(Option.isNone(yield* store.findKey(digestOfKey)))
      assert.isTrue(Option.isNone(yield* store.findMembership(two.scope, first.account.id)))
    }),

  "of many changes at once each is decided on what the one before has left": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const people = yield* Effect.all(Array.from({ length: 6 }, () => owner))
      const made = yield* organizationOf(people[0]!.scope)
      for (const { account } of people.slice(1)) yield* put(made.scope, account.id, "owner", "active")
      const left = yield* Effect.all(
        people.map(({ account }) =>
          Effect.result(
            store.changeMember(made.scope, {
              actor: account.id,
              member: account.id,
              at: at(3000),
              decide: ({ owners }) => (owners > 1 ? Result.succeed(Option.none()) : Result.fail("the last owner"))
            })
          )
        ),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(left.filter(Result.isSuccess).length, people.length - 1)
      assert.strictEqual((yield* store.listMembers(made.scope)).length, 1)
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<IdentityStore, E>) =>
  holds("IdentityStore", subject, layer, promises)
