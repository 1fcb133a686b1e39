import { type DateTime, Schema } from "effect"
import { AccountId } from "./Account.ts"

export const ApiKeyId = Schema.String.pipe(Schema.brand("ApiKeyId"))
export type ApiKeyId = typeof ApiKeyId.Type

/** HMAC-SHA256 of a key under the server's secret, in hex. Stored instead of the key. */
export const KeyDigest = Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/)).pipe(Schema.brand("KeyDigest"))
export type KeyDigest = typeof KeyDigest.Type

/** The prefix of every key. Tells API keys from other Bearer tokens. */
export const keyPrefix = "cst_"

/** A stored API key. Its secret is returned once, when it is issued, and never stored. */
export class ApiKey extends Schema.Class<ApiKey>("ApiKey")({
  id: ApiKeyId,
  account: AccountId,
  name: Schema.String,
  createdAt: Schema.DateTimeUtc,
  lastUsedAt: Schema.NullOr(Schema.DateTimeUtc),
  /** The key is invalid from this moment on; null if it does not expire. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc)
}) {}

/** Whether the key is valid at `now`. It is not at the moment of its expiry. */
export const isValid = (key: ApiKey, now: DateTime.Utc): boolean =>
  key.expiresAt === null || key.expiresAt.epochMilliseconds > now.epochMilliseconds

/** Milliseconds between two recorded uses of a key. */
export const useRecordIntervalMs = 60_000

/** Whether to record a use at `now`. */
export const isUseRecordDue = (key: ApiKey, now: DateTime.Utc): boolean =>
  key.lastUsedAt === null || now.epochMilliseconds - key.lastUsedAt.epochMilliseconds >= useRecordIntervalMs
