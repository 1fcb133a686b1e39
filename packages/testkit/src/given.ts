/** Things tests need that are of no interest in themselves. */
import { Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { DateTime, Effect } from "effect"
import { SecureRandom } from "effect/crypto"

/** An account that nobody else in the test has. */
export const account = Effect.fnUntraced(function* (more: { readonly platformAdmin?: boolean } = {}) {
  const account = new Account({
    id: AccountId.make(SecureRandom.uuidV4Unsafe()),
    name: "somebody",
    email: null,
    platformAdmin: more.platformAdmin ?? false,
    createdAt: yield* DateTime.now
  })
  yield* (yield* IdentityStore).addAccount(account)
  return account
})

/** The scope of a new account. */
export const scope = Effect.map(account(), ({ id }) => AccountScope.ofOwner({ account: id }))
