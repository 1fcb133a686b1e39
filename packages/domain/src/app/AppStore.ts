/** Stores apps. A NUL in a text may be read back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountId } from "../identity/Account.ts"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { AppliedAppTransition } from "./AppLifecycle.ts"
import type { AppSandbox } from "./AppSandbox.ts"

export class AppStore extends Context.Service<
  AppStore,
  {
    /**
     * Inserts a starting app of the scope's account with its event. If an app of the account is already starting, also
     * after concurrent calls, returns that one instead. Idempotent on the name: returns the existing row. None, without
     * any change, if the name belongs to another account.
     */
    readonly begin: (scope: AccountScope, app: AppSandbox) => Effect.Effect<Option.Option<AppSandbox>>
    /** The app with this name, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, name: SandboxName) => Effect.Effect<Option.Option<AppSandbox>>
    /** The account that owns the app. Callers may learn nothing else about an app of another account. */
    readonly ownerOf: (name: SandboxName) => Effect.Effect<Option.Option<AccountId>>
    /** The account's app that is ready or stopped; there is at most one. */
    readonly active: (scope: AccountScope) => Effect.Effect<Option.Option<AppSandbox>>
    /** The apps of the scope's account that have not ended, oldest first. */
    readonly listLive: (scope: AccountScope) => Effect.Effect<ReadonlyArray<AppSandbox>>
    /**
     * Writes transitions of apps of the scope's account with their events, all or none, and returns whether it did.
     * Writes them if every stored version is the expected one and at most one app is ready or stopped afterwards. One
     * of several concurrent writes to the same apps succeeds.
     */
    readonly compareAndSet: (
      scope: AccountScope,
      transitions: ReadonlyArray<AppliedAppTransition>
    ) => Effect.Effect<boolean>
    /**
     * Claims apps of all accounts whose `nextCheckAt` is not after `now`, longest due first, at most `limit`. Each goes
     * to one caller: its `nextCheckAt` becomes `leaseExpiresAt`.
     */
    readonly claimDue: (
      now: DateTime.Utc,
      leaseExpiresAt: DateTime.Utc,
      limit: number
    ) => Effect.Effect<ReadonlyArray<AppSandbox>>
  }
>()("domain/app/AppStore") {}
