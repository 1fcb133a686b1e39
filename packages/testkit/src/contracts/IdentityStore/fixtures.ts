import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { ApiKey, ApiKeyId, KeyDigest } from "@castellan/domain/identity/ApiKey.ts"
import { IdentityStore, type RoleAndStatus } from "@castellan/domain/identity/IdentityStore.ts"
import { Effect, Option, Result } from "effect"
import { SecureRandom } from "effect/crypto"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"

export const digest = () => KeyDigest.make(SecureRandom.uuidV4Unsafe().replaceAll("-", "").repeat(2))

export const keyOf = (account: AccountId, createdAt = 1000) =>
  new ApiKey({
    id: ApiKeyId.make(`key_${SecureRandom.uuidV4Unsafe()}`),
    account,
    name: "a 'key' with ünïcode",
    createdAt: at(createdAt),
    lastUsedAt: null,
    expiresAt: at(1_700_000_000_123)
  })

export const newOwner = Effect.gen(function* () {
  const account = yield* given.account()
  return { account, scope: AccountScope.ofOwner({ account: account.id }) }
})

export const organizationAccount = (createdAt: number) =>
  new Account({
    id: AccountId.make(SecureRandom.uuidV4Unsafe()),
    name: "Lovelace & Söhne",
    email: null,
    platformAdmin: false,
    createdAt: at(createdAt)
  })

/** Adds an organization owned by the scope's account, and returns it with its own scope. */
export const organizationOf = Effect.fnUntraced(function* (scope: AccountScope, createdAt = 1000) {
  const account = organizationAccount(createdAt)
  yield* (yield* IdentityStore).addOrganization(scope, account)
  return { account, scope: AccountScope.ofOwner({ account: account.id }) }
})

export const setStanding = (standing: RoleAndStatus) => () => Result.succeed(Option.some(standing))

/** Writes a membership of the organization whatever its current value. */
export const putMembership = Effect.fnUntraced(function* (
  organization: AccountScope,
  member: AccountId,
  role: RoleAndStatus["role"],
  status: RoleAndStatus["status"],
  createdAt = 2000
) {
  const store = yield* IdentityStore
  const change = { actor: member, member, at: at(createdAt), decide: setStanding({ role, status }) }
  return Option.getOrThrow(yield* store.changeMember(organization, change))
})
