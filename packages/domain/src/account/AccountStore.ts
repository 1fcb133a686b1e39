/** Where it is kept which sandboxes an account has. A NUL in a text may come back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { PlatformAdmin } from "../identity/PlatformAdmin.ts"
import type { Page, PageOf } from "../Page.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { SandboxQuotaReached } from "../sandbox/SandboxQuota.ts"
import type { AccountSandbox } from "./AccountSandbox.ts"
import type { AccountTotal } from "./AccountTotal.ts"

/** What a look at the provider may change of a row. */
export type ObservedState = Pick<AccountSandbox, "name" | "status" | "expiresAt" | "reason">

export class AccountStore extends Context.Service<
  AccountStore,
  {
    /**
     * Writes a row of the scope's account. Idempotent on the name: gives back the row that stands, the first one
     * written. A name of another account gives none and changes nothing. Fails if the account has `limit` live ones
     * already, however many ask at once: rows that are pending, running or stopping and, at the new one's `createdAt`,
     * not expired. With a row an event of its status is written, at its `createdAt`.
     */
    readonly add: (
      scope: AccountScope,
      sandbox: AccountSandbox,
      limit: number
    ) => Effect.Effect<Option.Option<AccountSandbox>, SandboxQuotaReached>
    /** The sandbox of that name, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, name: SandboxName) => Effect.Effect<Option.Option<AccountSandbox>>
    /** The sandboxes of the scope's account, newest first. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<AccountSandbox>>
    /**
     * Records how sandboxes of the scope's account were seen, in one write, and gives the names of those it recorded;
     * other accounts' rows, and rows whose files were removed, stay as they are. Where the status changed, an event is
     * written with it, with the sighting's reason.
     */
    readonly recordObserved: (
      scope: AccountScope,
      sightings: ReadonlyArray<ObservedState>
    ) => Effect.Effect<ReadonlySet<SandboxName>>
    /** Of all accounts: rows that were `pending` before `before`, oldest first, `limit` at most. */
    readonly listUnfinished: (before: DateTime.Utc, limit: number) => Effect.Effect<ReadonlyArray<AccountSandbox>>
    /** Those of the scope's account whose files were not removed, oldest first, `limit` at most. */
    readonly listKept: (scope: AccountScope, limit: number) => Effect.Effect<ReadonlyArray<AccountSandbox>>
    /**
     * Of all accounts: rows whose files were not removed and that expired before `before`, or, if they were never made,
     * were written before it; those over longest first, `limit` at most. Those that are `pending` are not among them.
     */
    readonly listExpired: (before: DateTime.Utc, limit: number) => Effect.Effect<ReadonlyArray<AccountSandbox>>
    /**
     * Records that the files of sandboxes of the scope's account were removed at `at`, with the reason; they are
     * stopped then, or stay failed. Those that were removed before stay as they are. With each an event is written that
     * it was removed.
     */
    readonly recordRemoved: (
      scope: AccountScope,
      names: ReadonlyArray<SandboxName>,
      at: DateTime.Utc,
      reason: string
    ) => Effect.Effect<void>
    /** Of all accounts: how many sandboxes live, that is, are pending, running or stopping and not expired at `now`. */
    readonly countLive: (now: DateTime.Utc) => Effect.Effect<number>
    /** Of all accounts that ever had a sandbox: how many, the account with the newest sandbox first. */
    readonly totals: (proof: PlatformAdmin, page: Page) => Effect.Effect<PageOf<AccountTotal>>
  }
>()("domain/account/AccountStore") {}
