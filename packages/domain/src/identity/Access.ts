/** Checks which accounts an actor may act for, when a request arrives and while its stream is open. */
import { Context, Duration, Effect, Layer, PubSub } from "effect"
import type { AccessPolicy, Relationship } from "./AccessRule.ts"
import type { AccountId } from "./Account.ts"
import { AccountForbidden, AccountScope } from "./AccountScope.ts"
import type { CurrentCredential, InvalidCredential } from "./Credential.ts"
import { CredentialWatch } from "./CredentialWatch.ts"
import { CurrentActor } from "./CurrentActor.ts"
import { IdentityStore } from "./IdentityStore.ts"

/** Time between two checks for changes that other servers wrote. */
const recheckInterval = Duration.seconds(5)

/** Ignores shared organizations. */
const withoutSharedOrganizations = ({ targetExists }: Relationship): Relationship => ({ targetExists, shared: [] })

/** Called with the account that a request may act for. Binds a saved response to that account. */
export const OnScopeGranted = Context.Reference<(account: AccountId) => void>("domain/identity/OnScopeGranted", {
  defaultValue: () => () => {}
})

const notify = ({ account }: AccountScope) => Effect.map(OnScopeGranted, (onGranted) => onGranted(account))

export class Access extends Context.Service<
  Access,
  {
    /**
     * A scope for the target account, or for the actor's own if no target is given. Fails unless the actor may act for
     * it. Costs one store query, and none for the actor's own account.
     */
    readonly scopeOf: (
      target: AccountId | null | undefined
    ) => Effect.Effect<AccountScope, AccountForbidden, CurrentActor>
    /**
     * Like `scopeOf` but ignores memberships: only the account itself and platform admins pass. For secrets of an account
     * such as its API keys, which would give a former member permanent access.
     */
    readonly scopeOfOwn: (
      target: AccountId | null | undefined
    ) => Effect.Effect<AccountScope, AccountForbidden, CurrentActor>
    /**
     * For streams and other long requests. Fails with `AccountForbidden` once the actor may no longer act for the scope's
     * account: at once if this process ends the membership, within 5 s if another one does. Fails with
     * `InvalidCredential` when `CredentialWatch` does.
     */
    readonly untilLost: (
      scope: AccountScope
    ) => Effect.Effect<never, AccountForbidden | InvalidCredential, CurrentActor | CurrentCredential>
    /** Rechecks all waits of `untilLost` that concern the account. To be called after each change of a membership. */
    readonly membershipChanged: (account: AccountId) => Effect.Effect<void>
  }
>()("domain/identity/Access") {
  static readonly layer = (options: { readonly policy: AccessPolicy }) =>
    Layer.effect(
      Access,
      Effect.gen(function* () {
        const store = yield* IdentityStore
        const { untilInvalid } = yield* CredentialWatch
        const changes = yield* PubSub.unbounded<AccountId>()

        const check = AccountScope.checkedBy(store, options.policy)
        const checkOwn = AccountScope.checkedBy(
          {
            relationshipBetween: (actor, target) =>
              Effect.map(store.relationshipBetween(actor, target), withoutSharedOrganizations)
          },
          options.policy
        )

        const scopeOf = Effect.fn("Access.scopeOf")(function* (target: AccountId | null | undefined) {
          return yield* Effect.tap(check(yield* CurrentActor, target ?? (yield* CurrentActor).id), notify)
        })

        const scopeOfOwn = Effect.fn("Access.scopeOfOwn")(function* (target: AccountId | null | undefined) {
          return yield* Effect.tap(checkOwn(yield* CurrentActor, target ?? (yield* CurrentActor).id), notify)
        })

        const untilForbidden = Effect.fnUntraced(function* ({ account }: AccountScope) {
          const actor = yield* CurrentActor
          if (account === actor.id) return yield* Effect.never
          const subscription: PubSub.Subscription<AccountId> = yield* PubSub.subscribe(changes)
          const changed = Effect.repeat(PubSub.take(subscription), { until: (id) => id === actor.id || id === account })
          const isLost = Effect.match(check(actor, account), { onSuccess: () => false, onFailure: () => true })
          while (!(yield* isLost)) yield* Effect.timeoutOption(changed, recheckInterval)
          return yield* new AccountForbidden({ account })
        }, Effect.scoped)

        return Access.of({
          scopeOf,
          scopeOfOwn,
          untilLost: (scope) => Effect.raceFirst(untilForbidden(scope), untilInvalid),
          membershipChanged: (account) => Effect.asVoid(PubSub.publish(changes, account))
        })
      })
    )
}
