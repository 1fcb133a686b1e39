import { Context, Duration, Effect, Layer, PubSub } from "effect"
import type { AccessPolicy, Ties } from "./AccessRule.ts"
import type { AccountId } from "./Account.ts"
import { AccountForbidden, AccountScope } from "./AccountScope.ts"
import type { CurrentCredential, InvalidCredential } from "./Credential.ts"
import { CredentialWatch } from "./CredentialWatch.ts"
import { CurrentActor } from "./CurrentActor.ts"
import { IdentityStore } from "./IdentityStore.ts"

/** How long a loss of access that another server wrote may go unseen. */
const lookAgainAfter = Duration.seconds(5)

/** Nobody's peer. */
const noTies = ({ targetExists }: Ties): Ties => ({ targetExists, shared: [] })

/** Told of the account that a request is let act for, where somebody must know it later. */
export const ActingFor = Context.Reference<(account: AccountId) => void>("domain/identity/ActingFor", {
  defaultValue: () => () => {}
})

const tell = ({ account }: AccountScope) => Effect.map(ActingFor, (told) => told(account))

export class Access extends Context.Service<
  Access,
  {
    /**
     * The account that a request is for, if the actor may act for it; the actor's own where it names none. One look-up
     * at the store, and none for the actor's own.
     */
    readonly scopeOf: (
      target: AccountId | null | undefined
    ) => Effect.Effect<AccountScope, AccountForbidden, CurrentActor>
    /**
     * The same for what is nobody's but the account's, such as its keys: membership does not count, so that no member
     * can become a peer for good. The actor's own account, and any account for a platform admin.
     */
    readonly scopeOfOwn: (
      target: AccountId | null | undefined
    ) => Effect.Effect<AccountScope, AccountForbidden, CurrentActor>
    /**
     * For what is open for a long time. Fails with `AccountForbidden` once the actor may no longer act for the scope's
     * account: at once when this process ends a membership, within 5 s when another one does. Fails with `InvalidCredential` once
     * the actor's credential is revoked or expires, as `CredentialWatch` says.
     */
    readonly untilLost: (
      scope: AccountScope
    ) => Effect.Effect<never, AccountForbidden | InvalidCredential, CurrentActor | CurrentCredential>
    /** For those who change a membership of the account: whoever waits for a loss looks again. */
    readonly changed: (account: AccountId) => Effect.Effect<void>
  }
>()("domain/identity/Access") {
  /** The rule that organizations go by. */
  static readonly layer = (options: { readonly policy: AccessPolicy }) =>
    Layer.effect(
      Access,
      Effect.gen(function* () {
        const store = yield* IdentityStore
        const { untilRefused } = yield* CredentialWatch
        const changes = yield* PubSub.unbounded<AccountId>()

        const check = AccountScope.checkedBy(store, options.policy)
        const checkOwn = AccountScope.checkedBy(
          { tiesBetween: (actor, target) => Effect.map(store.tiesBetween(actor, target), noTies) },
          options.policy
        )

        const scopeOf = Effect.fn("Access.scopeOf")(function* (target: AccountId | null | undefined) {
          return yield* Effect.tap(check(yield* CurrentActor, target ?? (yield* CurrentActor).id), tell)
        })

        const scopeOfOwn = Effect.fn("Access.scopeOfOwn")(function* (target: AccountId | null | undefined) {
          return yield* Effect.tap(checkOwn(yield* CurrentActor, target ?? (yield* CurrentActor).id), tell)
        })

        const untilHidden = Effect.fnUntraced(function* ({ account }: AccountScope) {
          const actor = yield* CurrentActor
          if (account === actor.id) return yield* Effect.never
          const subscription: PubSub.Subscription<AccountId> = yield* PubSub.subscribe(changes)
          const changed = Effect.repeat(PubSub.take(subscription), { until: (id) => id === actor.id || id === account })
          const isLost = Effect.match(check(actor, account), { onSuccess: () => false, onFailure: () => true })
          while (!(yield* isLost)) yield* Effect.timeoutOption(changed, lookAgainAfter)
          return yield* new AccountForbidden({ account })
        }, Effect.scoped)

        return Access.of({
          scopeOf,
          scopeOfOwn,
          untilLost: (scope) => Effect.raceFirst(untilHidden(scope), untilRefused),
          changed: (account) => Effect.asVoid(PubSub.publish(changes, account))
        })
      })
    )
}
