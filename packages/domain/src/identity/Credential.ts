/** What a request authenticates with: an API key, or a token of the identity provider. */
import { Context, type DateTime, Schema } from "effect"
import type { Account, AccountId } from "./Account.ts"
import type { ApiKey, ApiKeyId } from "./ApiKey.ts"

/** The credential is unknown, revoked or expired; callers can't tell which. */
export class InvalidCredential extends Schema.TaggedError<InvalidCredential>()("InvalidCredential", {}) {}

/** The part of a credential that decides how long it is valid. */
export interface Credential {
  /** The account that it authenticates. */
  readonly account: AccountId
  /** The stored API key; null for a token. */
  readonly key: ApiKeyId | null
  /** It is invalid from this moment on; null if it does not expire. */
  readonly expiresAt: DateTime.Utc | null
}

/** An account, and the credential that authenticated it. */
export interface Authentication {
  readonly account: Account
  readonly credential: Credential
}

export const ofKey = (key: ApiKey): Credential => ({ account: key.account, key: key.id, expiresAt: key.expiresAt })

/** The credential of an account that an embedding service has authenticated. Valid while the account exists. */
export const ofAccount = ({ id }: Account): Credential => ({ account: id, key: null, expiresAt: null })

/** The credential of the current request. */
export class CurrentCredential extends Context.Service<CurrentCredential, Credential>()(
  "domain/identity/CurrentCredential"
) {}
