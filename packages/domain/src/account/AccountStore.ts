/** Where it is kept which sandboxes an account has. A NUL in a text may come back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { Page, PageOf } from "../Page.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { AccountSandbox } from "./AccountSandbox.ts"

/** What a look at the provider may change of a row. */
export type Sighting = Pick<AccountSandbox, "name" | "status" | "expiresAt" | "reason">

export class AccountStore extends Context.Service<
  AccountStore,
  {
    /**
     * Writes a row of the scope's account. Idempotent on the name: gives back the row that stands, the first one
     * written. A name of another account gives none and changes nothing.
     */
    readonly add: (scope: AccountScope, sandbox: AccountSandbox) => Effect.Effect<Option.Option<AccountSandbox>>
    /** The sandbox of that name, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, name: SandboxName) => Effect.Effect<Option.Option<AccountSandbox>>
    /** The sandboxes of the scope's account, newest first. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<AccountSandbox>>
    /** Records how sandboxes of the scope's account were seen, in one write; other accounts' rows stay. */
    readonly see: (scope: AccountScope, sightings: ReadonlyArray<Sighting>) => Effect.Effect<void>
    /** Of all accounts: rows that were `pending` before `before`, oldest first, `limit` at most. */
    readonly listUnfinished: (before: DateTime.Utc, limit: number) => Effect.Effect<ReadonlyArray<AccountSandbox>>
  }
>()("domain/account/AccountStore") {}
