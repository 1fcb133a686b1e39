import { AccountId } from "@castellan/domain/identity/Account.ts"
import { IdentityStore, type MembershipContext, type RoleAndStatus } from "@castellan/domain/identity/IdentityStore.ts"
import { Membership } from "@castellan/domain/identity/Membership.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Result } from "effect"
import { SecureRandom } from "effect/crypto"
import { assertUnchanged } from "../assertUnchanged.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { digest, keyOf, newOwner, organizationOf, putMembership } from "./fixtures.ts"

export const members: Clauses<IdentityStore> = {
  "only the members of the scope's organization are listed, in the order of membership": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two, three] = [yield* newOwner, yield* newOwner, yield* newOwner]
      const [made, other] = [yield* organizationOf(one.scope), yield* organizationOf(one.scope)]
      const last = yield* putMembership(made.scope, two.account.id, "member", "active", 3000)
      const middle = yield* putMembership(made.scope, three.account.id, "admin", "invited", 2000)
      yield* putMembership(other.scope, three.account.id, "admin", "invited", 2000)
      const first = Option.getOrThrow(yield* store.findMembership(one.scope, made.account.id))
      assert.deepStrictEqual(yield* store.listMembers(made.scope), [first, middle, last])
      assert.deepStrictEqual(yield* store.listMembers(two.scope), [])
    }),

  "an invitation is accepted by its account only, and accepting it again is harmless": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two, three] = [yield* newOwner, yield* newOwner, yield* newOwner]
      const made = yield* organizationOf(one.scope)
      const invited = yield* putMembership(made.scope, two.account.id, "admin", "invited")
      assert.isTrue(Option.isNone(yield* store.acceptMembership(three.scope, made.account.id)))
      assert.deepStrictEqual(yield* store.findMembership(two.scope, made.account.id), Option.some(invited))
      const active = new Membership({ ...invited, status: "active" })
      for (let i = 0; i < 2; i++) {
        assert.deepStrictEqual(yield* store.acceptMembership(two.scope, made.account.id), Option.some(active))
      }
      assert.deepStrictEqual(yield* store.findMembership(two.scope, made.account.id), Option.some(active))
    }),

  "a membership is changed as decided from its current value": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* newOwner, yield* newOwner]
      const made = yield* organizationOf(one.scope)
      // Another role, an invitation, or an owner of another organization does not count as an owner.
      yield* putMembership(made.scope, (yield* newOwner).account.id, "admin", "active")
      yield* putMembership(made.scope, (yield* newOwner).account.id, "member", "active")
      yield* putMembership(made.scope, (yield* newOwner).account.id, "owner", "invited")
      yield* putMembership((yield* organizationOf(one.scope)).scope, (yield* newOwner).account.id, "owner", "active")
      const seen: Array<MembershipContext> = []
      const deciding = (standing: Option.Option<RoleAndStatus>) => ({
        actor: one.account.id,
        member: two.account.id,
        at: at(2000),
        decide: (stood: MembershipContext) => {
          seen.push(stood)
          return Result.succeed(standing)
        }
      })
      const boss = yield* store.findMembership(one.scope, made.account.id)
      const owners: RoleAndStatus = { role: "owner", status: "active" }
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

  "changing a membership keeps its creation date": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const made = yield* organizationOf((yield* newOwner).scope)
      const unknown = AccountId.make(SecureRandom.uuidV4Unsafe())
      yield* putMembership(made.scope, unknown, "member", "invited", 2000)
      const changed = yield* putMembership(made.scope, unknown, "admin", "active", 3000)
      assert.deepStrictEqual(
        changed,
        new Membership({
          organization: made.account.id,
          account: unknown,
          role: "admin",
          status: "active",
          createdAt: at(2000)
        })
      )
      assert.deepStrictEqual((yield* store.listMembers(made.scope))[1], changed)
    }),

  "a change that the decision rejects changes nothing": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const { account, scope } = yield* newOwner
      const made = yield* organizationOf(scope)
      const change = { actor: account.id, member: account.id, at: at(2000), decide: () => Result.fail("no") }
      assert.strictEqual(yield* Effect.flip(store.changeMember(made.scope, change)), "no")
      assert.strictEqual((yield* store.listMembers(made.scope)).length, 1)
    }),

  "a write does not change any other key or membership": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two, stranger] = [yield* newOwner, yield* newOwner, yield* newOwner]
      const [first, second] = [yield* organizationOf(one.scope), yield* organizationOf(one.scope)]
      const foreign = yield* organizationOf(stranger.scope)
      for (const { scope } of [first, second, foreign]) yield* putMembership(scope, two.account.id, "member", "invited")
      yield* putMembership(first.scope, stranger.account.id, "member", "invited")
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
      yield* assertUnchanged(rows, {
        recordUse: store.recordUse(key.id, at(5000)),
        removeKey: store.removeKey(one.scope, key.id),
        acceptMembership: store.acceptMembership(two.scope, first.account.id),
        changeMember: putMembership(first.scope, two.account.id, "admin", "active"),
        "changeMember that removes": store.changeMember(first.scope, {
          ...removal,
          decide: () => Result.succeed(Option.none())
        })
      })
      assert.isTrue(Option.isNone(yield* store.findKey(digestOfKey)))
      assert.isTrue(Option.isNone(yield* store.findMembership(two.scope, first.account.id)))
    }),

  "concurrent changes are decided one after the other, each from the result of the previous": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const people = yield* Effect.all(Array.from({ length: 6 }, () => newOwner))
      const made = yield* organizationOf(people[0]!.scope)
      for (const { account } of people.slice(1)) yield* putMembership(made.scope, account.id, "owner", "active")
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
