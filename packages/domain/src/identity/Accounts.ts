/** Creates accounts for platform admins. */
import { Context, DateTime, Effect, Layer, Option } from "effect"
import { Digest } from "effect/crypto/Digest"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { givenOrNew } from "../newNonce.ts"
import { Account } from "./Account.ts"
import { accountIdOf } from "./accountIdOf.ts"
import type { CurrentActor } from "./CurrentActor.ts"
import { IdentityStore } from "./IdentityStore.ts"
import { type NotPlatformAdmin, PlatformAdmin } from "./PlatformAdmin.ts"

/** A request for an account. The same nonce gives the same account. */
export interface NewAccount {
  readonly name: string | null
  readonly email: string | null
  readonly nonce: Option.Option<string>
}

export class Accounts extends Context.Service<
  Accounts,
  {
    /** Creates an account. The actor must be a platform admin. */
    readonly create: (request: NewAccount) => Effect.Effect<Account, NotPlatformAdmin, CurrentActor>
  }
>()("domain/identity/Accounts") {
  static readonly layer = Layer.effect(
    Accounts,
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const random = yield* SecureRandom
      const digest = yield* Digest

      const create = Effect.fn("Accounts.create")(function* (request: NewAccount) {
        yield* PlatformAdmin.proof
        const nonce = yield* givenOrNew(random, request.nonce)
        const account = new Account({
          id: yield* accountIdOf(digest, nonce),
          name: request.name,
          email: request.email,
          platformAdmin: false,
          createdAt: yield* DateTime.now
        })
        yield* store.addAccount(account)
        return Option.getOrElse(yield* store.findAccount(account.id), () => account)
      })

      return Accounts.of({ create })
    })
  )
}
