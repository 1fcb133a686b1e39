/** A proof that the actor may act for an account. Only the membership check and stored rows give one. */
import { Effect, Schema } from "effect"
import { type AccessPolicy, mayActFor, type Relationship } from "./AccessRule.ts"
import { type Account, AccountId, inLowerCase } from "./Account.ts"
import { CurrentActor } from "./CurrentActor.ts"

/** The account does not exist, or the actor may not act for it. Callers can't tell which. */
export class AccountForbidden extends Schema.TaggedError<AccountForbidden>()("AccountForbidden", {
  account: AccountId
}) {}

/** The part of `IdentityStore` that the check reads. */
interface Memberships {
  readonly relationshipBetween: (actor: AccountId, target: AccountId) => Effect.Effect<Relationship>
}

/** Permission to act for an account. Stores require one, so no code can read rows without the check. */
export class AccountScope {
  readonly account: AccountId

  /** Makes the type nominal. */
  protected readonly proven = true

  private constructor(account: AccountId) {
    this.account = account
  }

  /** The scope of the actor's own account, without a query. */
  static readonly own = Effect.map(CurrentActor, (actor) => new AccountScope(actor.id))

  /** The membership check. Costs one query, and none for the actor's own account. */
  static readonly checkedBy = (store: Memberships, policy: AccessPolicy) =>
    Effect.fnUntraced(function* (actor: Account, named: AccountId) {
      const target = inLowerCase(named)
      if (target === actor.id) return new AccountScope(target)
      const relationship = yield* store.relationshipBetween(actor.id, target)
      return mayActFor(policy, actor, target, relationship)
        ? new AccountScope(target)
        : yield* new AccountForbidden({ account: target })
    })

  /** The scope of the owner of a stored row, for work that the server does on its own. */
  static readonly ofOwner = (owned: { readonly account: AccountId }): AccountScope => new AccountScope(owned.account)
}
