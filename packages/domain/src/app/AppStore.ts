/** Where it is kept which apps an account has. A NUL in a text may come back as U+FFFD. */
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
     * Writes a starting app of the scope's account, with the event of it, unless one of the account's is starting
     * already, however many begin at once: then gives that one. Idempotent on its name: gives back the row that stands.
     * A name of another account gives none and changes nothing.
     */
    readonly begin: (scope: AccountScope, app: AppSandbox) => Effect.Effect<Option.Option<AppSandbox>>
    /** The app of that name, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, name: SandboxName) => Effect.Effect<Option.Option<AppSandbox>>
    /** Whose app it is: all that may be told of one that is not one's own. */
    readonly ownerOf: (name: SandboxName) => Effect.Effect<Option.Option<AccountId>>
    /** The account's app that is ready or stopped: there is one at most. */
    readonly active: (scope: AccountScope) => Effect.Effect<Option.Option<AppSandbox>>
    /** The apps of the scope's account that have not ended, oldest first. */
    readonly listLive: (scope: AccountScope) => Effect.Effect<ReadonlyArray<AppSandbox>>
    /**
     * Writes transitions of apps of the scope's account, each with its event, all or none, and gives whether it did. It
     * does if every stored version is the expected one and no two apps are then ready or stopped. One of several
     * concurrent writes to the same apps succeeds.
     */
    readonly compareAndSet: (
      scope: AccountScope,
      transitions: ReadonlyArray<AppliedAppTransition>
    ) => Effect.Effect<boolean>
    /**
     * Apps of all accounts whose `nextCheckAt` is not after `now`, the longest due first, at most `limit`. Each is given to
     * one caller: its `nextCheckAt` becomes `leaseExpiresAt`, so that no other caller gets it before.
     */
    readonly claimDue: (
      now: DateTime.Utc,
      leaseExpiresAt: DateTime.Utc,
      limit: number
    ) => Effect.Effect<ReadonlyArray<AppSandbox>>
  }
>()("domain/app/AppStore") {}
