/** Where accounts and the digests of their keys are kept. A NUL in a text may come back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { Account, AccountId } from "./Account.ts"
import type { AccountScope } from "./AccountScope.ts"
import type { ApiKey, ApiKeyId, KeyDigest } from "./ApiKey.ts"

export class IdentityStore extends Context.Service<
  IdentityStore,
  {
    /** Writes an account. Idempotent on its id: the first one written stays. */
    readonly addAccount: (account: Account) => Effect.Effect<void>
    /** The account of that id. */
    readonly findAccount: (id: AccountId) => Effect.Effect<Option.Option<Account>>
    /** The oldest platform admin; none on a new installation. */
    readonly findPlatformAdmin: Effect.Effect<Option.Option<Account>>
    /** Writes a key of the scope's account under its digest. A digest that is already known keeps its first key. */
    readonly addKey: (scope: AccountScope, key: ApiKey, digest: KeyDigest) => Effect.Effect<void>
    /** The key of that digest with its account, in one look-up; expired keys too, for the caller to judge. */
    readonly findKey: (
      digest: KeyDigest
    ) => Effect.Effect<Option.Option<{ readonly key: ApiKey; readonly account: Account }>>
    /** The keys of the scope's account, newest first. */
    readonly listKeys: (scope: AccountScope) => Effect.Effect<ReadonlyArray<ApiKey>>
    /** Forgets a key of the scope's account and tells whether there was one; another account's key stays. */
    readonly removeKey: (scope: AccountScope, id: ApiKeyId) => Effect.Effect<boolean>
    /** Records when a key was used last; an earlier time than the recorded one changes nothing. */
    readonly recordUse: (id: ApiKeyId, at: DateTime.Utc) => Effect.Effect<void>
  }
>()("domain/identity/IdentityStore") {}
