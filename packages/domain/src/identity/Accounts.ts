import { Context, DateTime, Effect, Layer, Schema } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { Account, AccountId } from "./Account.ts"
import { CurrentActor } from "./CurrentActor.ts"
import { IdentityStore } from "./IdentityStore.ts"

/** Only a platform admin may do this. */
export class NotPlatformAdmin extends Schema.TaggedError<NotPlatformAdmin>()("NotPlatformAdmin", {}) {}

export class Accounts extends Context.Service<
  Accounts,
  {
    /** Makes an account. The actor must be a platform admin. */
    readonly create: (wanted: {
      readonly name: string | null
      readonly email: string | null
    }) => Effect.Effect<Account, NotPlatformAdmin, CurrentActor>
  }
>()("domain/identity/Accounts") {
  static readonly layer = Layer.effect(
    Accounts,
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const random = yield* SecureRandom

      const create = Effect.fn("Accounts.create")(function* (wanted: {
        readonly name: string | null
        readonly email: string | null
      }) {
        const actor = yield* CurrentActor
        if (!actor.platformAdmin) return yield* new NotPlatformAdmin()
        const account = new Account({
          id: AccountId.make(yield* random.uuidV4()),
          name: wanted.name,
          email: wanted.email,
          platformAdmin: false,
          createdAt: yield* DateTime.now
        })
        yield* store.addAccount(account)
        return account
      })

      return Accounts.of({ create })
    })
  )
}
