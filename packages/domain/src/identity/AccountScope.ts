import { Effect, Schema } from "effect"
import { type AccessPolicy, mayActFor, type Ties } from "./AccessRule.ts"
import { type Account, AccountId, inLowerCase } from "./Account.ts"
import { CurrentActor } from "./CurrentActor.ts"

/** The actor may not act for the account, or there is no such account: nobody learns which. */
export class AccountForbidden extends Schema.TaggedError<AccountForbidden>()("AccountForbidden", {
  account: AccountId
}) {}

/** What the check reads; the identity store has it. */
interface Memberships {
  readonly tiesBetween: (actor: AccountId, target: AccountId) => Effect.Effect<Ties>
}

/** Proof that whoever holds it may act for the account. Stores ask for it, so an unchecked read has no spelling. */
export class AccountScope {
  readonly account: AccountId

  /** Keeps what only looks like a scope from being one. */
  protected readonly proven = true

  private constructor(account: AccountId) {
    this.account = account
  }

  /** The actor's own account, which needs no asking. */
  static readonly own = Effect.map(CurrentActor, (actor) => new AccountScope(actor.id))

  /** The membership check: one look-up, and none for the actor's own account. */
  static readonly checkedBy = (store: Memberships, policy: AccessPolicy) =>
    Effect.fnUntraced(function* (actor: Account, named: AccountId) {
      const target = inLowerCase(named)
      if (target === actor.id) return new AccountScope(target)
      const ties = yield* store.tiesBetween(actor.id, target)
      return mayActFor(policy, actor, target, ties)
        ? new AccountScope(target)
        : yield* new AccountForbidden({ account: target })
    })

  /** For work the server finishes by itself: the owner of a row that it has read. */
  static readonly ofOwner = (owned: { readonly account: AccountId }): AccountScope => new AccountScope(owned.account)
}
