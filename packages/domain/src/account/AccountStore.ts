/** Stores the sandboxes of accounts. A NUL in a stored text may be read back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { ChangeCode, ChangeReason } from "../ChangeReason.ts"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { PlatformAdmin } from "../identity/PlatformAdmin.ts"
import type { Page, PageOf } from "../Page.ts"
import type { SandboxStatus } from "../sandbox/Sandbox.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { SandboxQuotaReached } from "../sandbox/SandboxQuota.ts"
import type { AccountSandbox } from "./AccountSandbox.ts"
import type { AccountTotal } from "./AccountTotal.ts"

/** The fields of a row that an observation of the provider may change. */
export interface ObservedState extends Pick<AccountSandbox, "name" | "status" | "expiresAt" | "reason"> {
  /** Why the status changed, for the event. Default: the code of the status. */
  readonly code?: ChangeCode
}

const codes: Record<SandboxStatus, ChangeCode> = {
  pending: "created",
  running: "started",
  stopping: "stopped",
  stopped: "stopped",
  failed: "sandbox_failed"
}

/** The code of the event that a change to this state adds. */
export const changeCodeOf = ({ code, status }: Pick<ObservedState, "code" | "status">): ChangeCode =>
  code ?? codes[status]

export class AccountStore extends Context.Service<
  AccountStore,
  {
    /**
     * Inserts a row for the scope's account. Idempotent on the name: returns the first row written under it. Returns
     * none, and changes nothing, if the name belongs to another account. Fails if the account already has `limit` live
     * sandboxes, also under concurrent calls. A row is live while it is pending, running or stopping and has not expired
     * at the new row's `createdAt`. The same write adds an event with the row's status and `createdAt`, and the code `created`.
     */
    readonly add: (
      scope: AccountScope,
      sandbox: AccountSandbox,
      limit: number
    ) => Effect.Effect<Option.Option<AccountSandbox>, SandboxQuotaReached>
    /** The sandbox with this name, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, name: SandboxName) => Effect.Effect<Option.Option<AccountSandbox>>
    /** The sandboxes of the scope's account, newest first. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<AccountSandbox>>
    /**
     * Records the observed states of sandboxes of the scope's account in one write and returns the names it recorded.
     * Rows of other accounts and rows whose files were removed stay unchanged. Each change of status adds an event with
     * the observed reason and the state's code (`changeCodeOf`).
     */
    readonly recordObserved: (
      scope: AccountScope,
      states: ReadonlyArray<ObservedState>
    ) => Effect.Effect<ReadonlySet<SandboxName>>
    /** Rows of all accounts that were `pending` before `before`, oldest first, at most `limit`. */
    readonly listUnfinished: (before: DateTime.Utc, limit: number) => Effect.Effect<ReadonlyArray<AccountSandbox>>
    /** Sandboxes of the scope's account whose files were not removed, oldest first, at most `limit`. */
    readonly listKept: (scope: AccountScope, limit: number) => Effect.Effect<ReadonlyArray<AccountSandbox>>
    /**
     * Rows of all accounts whose files were not removed and that expired before `before` or, if the provider never
     * created them, were written before it. The longest expired come first, at most `limit`. Excludes `pending` rows.
     */
    readonly listExpired: (before: DateTime.Utc, limit: number) => Effect.Effect<ReadonlyArray<AccountSandbox>>
    /**
     * Records that the files of sandboxes of the scope's account were removed at `at`, and why. Their status becomes
     * `stopped`, or stays `failed`. Rows already marked as removed stay unchanged. Each change adds a removal event.
     */
    readonly recordRemoved: (
      scope: AccountScope,
      names: ReadonlyArray<SandboxName>,
      at: DateTime.Utc,
      reason: ChangeReason
    ) => Effect.Effect<void>
    /** Counts the live sandboxes of all accounts: pending, running or stopping, and not expired at `now`. */
    readonly countLive: (now: DateTime.Utc) => Effect.Effect<number>
    /** Counts sandboxes for each account that ever had one; the account with the newest sandbox comes first. */
    readonly totals: (proof: PlatformAdmin, page: Page) => Effect.Effect<PageOf<AccountTotal>>
  }
>()("domain/account/AccountStore") {}
