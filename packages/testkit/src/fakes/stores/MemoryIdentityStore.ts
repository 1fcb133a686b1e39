import type { SharedOrganization } from "@castellan/domain/identity/AccessRule.ts"
import type { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { ApiKey, type ApiKeyId, type KeyDigest } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Membership } from "@castellan/domain/identity/Membership.ts"
import { Effect, Layer, Option, Result } from "effect"

const oldestFirst = <A extends Membership>(memberships: ReadonlyArray<A>) =>
  memberships.toSorted((a, b) => a.createdAt.epochMilliseconds - b.createdAt.epochMilliseconds)

/** Stores accounts, keys and memberships in memory. */
export const layer = Layer.sync(IdentityStore, () => {
  const accounts = new Map<AccountId, Account>()
  const keys = new Map<KeyDigest, ApiKey>()

  const memberships = new Map<string, Membership>()

  const place = (organization: AccountId, account: AccountId) => `${organization} ${account}`
  const membershipOf = (organization: AccountId, account: AccountId) =>
    Option.fromUndefinedOr(memberships.get(place(organization, account)))
  const of = (organization: AccountId) => [...memberships.values()].filter((one) => one.organization === organization)

  const digestOf = (id: ApiKeyId) => [...keys].find(([, key]) => key.id === id)?.[0]

  return IdentityStore.of({
    addAccount: (account) =>
      Effect.sync(() => {
        if (!accounts.has(account.id)) accounts.set(account.id, account)
      }),
    findAccount: (id) => Effect.sync(() => Option.fromUndefinedOr(accounts.get(id))),
    findPlatformAdmin: Effect.sync(() =>
      Option.fromUndefinedOr(
        [...accounts.values()]
          .filter((account) => account.platformAdmin)
          .sort((a, b) => a.createdAt.epochMilliseconds - b.createdAt.epochMilliseconds)[0]
      )
    ),
    addKey: (scope, key, digest) =>
      Effect.sync(() => {
        if (!keys.has(digest)) keys.set(digest, new ApiKey({ ...key, account: scope.account }))
      }),
    findKey: (digest) =>
      Effect.sync(() => {
        const key = keys.get(digest)
        const account = key && accounts.get(key.account)
        return key && account ? Option.some({ key, account }) : Option.none()
      }),
    listKeys: (scope) =>
      Effect.sync(() =>
        [...keys.values()]
          .filter((key) => key.account === scope.account)
          .sort((a, b) => b.createdAt.epochMilliseconds - a.createdAt.epochMilliseconds)
      ),
    removeKey: (scope, id) =>
      Effect.sync(() => {
        const digest = digestOf(id)
        return digest !== undefined && keys.get(digest)!.account === scope.account && keys.delete(digest)
      }),
    findExisting: (asked) =>
      Effect.sync(() => ({
        keys: new Set(asked.keys.filter((id) => digestOf(id) !== undefined)),
        accounts: new Set(asked.accounts.filter((id) => accounts.has(id)))
      })),
    recordUse: (id, at) =>
      Effect.sync(() => {
        const digest = digestOf(id)
        const key = digest && keys.get(digest)
        if (!digest || !key) return
        const last = key.lastUsedAt?.epochMilliseconds ?? -Infinity
        if (last < at.epochMilliseconds) keys.set(digest, new ApiKey({ ...key, lastUsedAt: at }))
      }),
    relationshipBetween: (actor, target) =>
      Effect.sync(() => ({
        targetExists: accounts.has(target),
        shared: [...memberships.values()]
          .filter(({ account }) => account === actor)
          .flatMap(({ organization, role, status }): Array<SharedOrganization> => {
            if (organization === target) return [{ role, status, target: "organization" }]
            const other = membershipOf(organization, target)
            return Option.isSome(other) ? [{ role, status, target: other.value.status }] : []
          })
      })),
    addOrganization: (scope, organization) =>
      Effect.sync(() => {
        if (accounts.has(organization.id)) return
        accounts.set(organization.id, organization)
        memberships.set(
          place(organization.id, scope.account),
          new Membership({
            organization: organization.id,
            account: scope.account,
            role: "owner",
            status: "active",
            createdAt: organization.createdAt
          })
        )
      }),
    listOrganizations: ({ account }) =>
      Effect.sync(() =>
        oldestFirst([...memberships.values()].filter((one) => one.account === account)).map((membership) => ({
          organization: accounts.get(membership.organization)!,
          membership
        }))
      ),
    findMembership: ({ account }, organization) => Effect.sync(() => membershipOf(organization, account)),
    listMembers: ({ account }) => Effect.sync(() => oldestFirst(of(account))),
    acceptMembership: ({ account }, organization) =>
      Effect.sync(() =>
        Option.map(membershipOf(organization, account), (known) => {
          const accepted = new Membership({ ...known, status: "active" })
          memberships.set(place(organization, account), accepted)
          return accepted
        })
      ),
    changeMember: ({ account: organization }, { actor, at, decide, member }) =>
      Effect.suspend(() => {
        const known = membershipOf(organization, member)
        const decided = decide({
          actor: membershipOf(organization, actor),
          member: known,
          owners: of(organization).filter(({ role, status }) => role === "owner" && status === "active").length
        })
        const stands = Result.map(
          decided,
          Option.map((standing) => {
            const createdAt = Option.isSome(known) ? known.value.createdAt : at
            return new Membership({ ...standing, organization, account: member, createdAt })
          })
        )
        if (Result.isSuccess(stands)) {
          if (Option.isSome(stands.success)) memberships.set(place(organization, member), stands.success.value)
          else memberships.delete(place(organization, member))
        }
        return Effect.fromResult(stands)
      })
  })
})
