import { type DateTime, Schema } from "effect"
import { AccountId } from "./Account.ts"

export const ApiKeyId = Schema.String.pipe(Schema.brand("ApiKeyId"))
export type ApiKeyId = typeof ApiKeyId.Type

/** HMAC-SHA256 of a key under the server's secret, in hex: what is stored in place of the key. */
export const KeyDigest = Schema.String.check(Schema.isPattern(/^[0-9a-f]{64}$/)).pipe(Schema.brand("KeyDigest"))
export type KeyDigest = typeof KeyDigest.Type

/** What every key begins with; a Bearer token that begins so is an API key. */
export const keyPrefix = "cst_"

/** What is known of an API key. The key itself is shown once, when it is issued, and is not kept. */
export class ApiKey extends Schema.Class<ApiKey>("ApiKey")({
  id: ApiKeyId,
  account: AccountId,
  name: Schema.String,
  createdAt: Schema.DateTimeUtc,
  lastUsedAt: Schema.NullOr(Schema.DateTimeUtc),
  /** From this moment on the key is refused; null for never. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc)
}) {}

/** Whether the key is still good at `now`; at the very moment of its expiry it no longer is. */
export const isValid = (key: ApiKey, now: DateTime.Utc): boolean =>
  key.expiresAt === null || key.expiresAt.epochMilliseconds > now.epochMilliseconds

/** Milliseconds between two records of a key's use: often enough to see what is in use, rarely enough to be free. */
export const useRecordedEvery = 60_000

/** Whether this use is worth a write. */
export const isWorthRecording = (key: ApiKey, now: DateTime.Utc): boolean =>
  key.lastUsedAt === null || now.epochMilliseconds - key.lastUsedAt.epochMilliseconds >= useRecordedEvery
