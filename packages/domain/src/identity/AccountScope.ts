import { Effect, Option, Schema } from "effect"
import { type Account, AccountId } from "./Account.ts"
import { CurrentActor } from "./CurrentActor.ts"

/** The actor may not act for the account, or there is no such account: nobody learns which. */
export class AccountHidden extends Schema.TaggedError<AccountHidden>()("AccountHidden", { account: AccountId }) {}

/** What the check needs to know of accounts; the identity store knows it. */
interface Accounts {
  readonly findAccount: (id: AccountId) => Effect.Effect<Option.Option<Account>>
}

/** Proof that whoever holds it may act for the account. Stores ask for it, so an unchecked read has no spelling. */
export class AccountScope {
  readonly account: AccountId

  private constructor(account: AccountId) {
    this.account = account
  }

  /** The actor's own account, which needs no asking. */
  static readonly own = Effect.map(CurrentActor, (actor) => new AccountScope(actor.id))

  /** The account the actor named, if it may act for it; its own where it named none. */
  static readonly checkedBy = (identities: Accounts) =>
    Effect.fn("AccountScope.of")(function* (target: AccountId | null | undefined) {
      const actor = yield* CurrentActor
      if (target === null || target === undefined || target === actor.id) return new AccountScope(actor.id)
      if (actor.platformAdmin && Option.isSome(yield* identities.findAccount(target))) return new AccountScope(target)
      return yield* new AccountHidden({ account: target })
    })

  /** For work the server finishes by itself: the owner of a row that it has read. */
  static readonly ofOwner = (owned: { readonly account: AccountId }): AccountScope => new AccountScope(owned.account)
}
