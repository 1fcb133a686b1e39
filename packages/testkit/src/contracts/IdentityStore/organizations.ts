import { Account } from "@castellan/domain/identity/Account.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Membership } from "@castellan/domain/identity/Membership.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import type { Clauses } from "../contract.ts"
import { newOwner, organizationOf, putMembership } from "./fixtures.ts"

export const organizations: Clauses<IdentityStore> = {
  "an organization is added with its first owner": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const { account, scope } = yield* newOwner
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

  "adding an organization with a known id changes nothing": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* newOwner, yield* newOwner]
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

  "only the account's own organizations are listed, in the order of membership": () =>
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const [one, two] = [yield* newOwner, yield* newOwner]
      const own = yield* organizationOf(one.scope, 3000)
      const [later, earlier] = [yield* organizationOf(two.scope, 1), yield* organizationOf(two.scope, 1)]
      yield* organizationOf(two.scope, 2000)
      const invited = yield* putMembership(later.scope, one.account.id, "admin", "invited", 4000)
      const active = yield* putMembership(earlier.scope, one.account.id, "member", "active", 2000)
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
      const [one, two] = [yield* newOwner, yield* newOwner]
      const [first, second] = [yield* organizationOf(one.scope), yield* organizationOf(one.scope)]
      const membership = yield* putMembership(first.scope, two.account.id, "admin", "invited")
      assert.deepStrictEqual(yield* store.findMembership(two.scope, first.account.id), Option.some(membership))
      assert.isTrue(Option.isNone(yield* store.findMembership(two.scope, second.account.id)))
      assert.isTrue(Option.isNone(yield* store.findMembership(first.scope, two.account.id)))
    })
}
