/** Stores the requests and responses of an account by their idempotency keys. */
import { Context, Data, type DateTime, type Effect, Schema } from "effect"
import type { AccountScope } from "./AccountScope.ts"

/** A key that the client chooses for one request: 1 to 255 printable ASCII characters. */
export const IdempotencyKey = Schema.String.check(Schema.isPattern(/^[\x20-\x7e]{1,255}$/)).pipe(
  Schema.brand("IdempotencyKey")
)
export type IdempotencyKey = typeof IdempotencyKey.Type

/** A response as it was sent. */
export class SavedResponse extends Schema.Class<SavedResponse>("SavedResponse")({
  status: Schema.Int,
  body: Schema.String
}) {}

/** The state of an idempotency key when a request with it arrives. */
export type KeyState = Data.TaggedEnum<{
  /** The request is new, or its earlier attempt crashed: execute it. Every attempt has the same nonce. */
  First: { readonly nonce: string }
  /** The request was executed. */
  Completed: { readonly answer: SavedResponse }
  /** Another attempt is executing the request. */
  InFlight: {}
  /** The key was used for another request. */
  Reused: {}
}>
export const KeyState = Data.taggedEnum<KeyState>()

/** Milliseconds for which a response is kept. */
export const responseRetentionMs = 24 * 60 * 60 * 1000

/**
 * Milliseconds for which an attempt holds its key after it began or renewed its lease. Afterwards its server counts as dead
 * and another attempt may begin.
 */
export const keyLeaseMs = 10_000

export class IdempotencyStore extends Context.Service<
  IdempotencyStore,
  {
    /**
     * Begins an attempt, atomically: of two concurrent calls one gets `First` and the other `InFlight`. `request` is a
     * digest of the request. `nonce` is stored with the first attempt. `First` holds the key under a lease of `keyLeaseMs`
     * from `at`. A request without a response whose lease has expired may begin again, with its first nonce. A request
     * older than `responseRetentionMs` is forgotten. A store that only one server can open expires all leases when it is
     * opened, since their holders are dead.
     */
    readonly begin: (
      scope: AccountScope,
      key: IdempotencyKey,
      attempt: { readonly request: string; readonly nonce: string; readonly at: DateTime.Utc }
    ) => Effect.Effect<KeyState>
    /**
     * Renews the lease that counts from `held`, the time at which the attempt began or last renewed it. It then counts from
     * `at`. False if the attempt no longer holds the key.
     */
    readonly renew: (
      scope: AccountScope,
      key: IdempotencyKey,
      held: DateTime.Utc,
      at: DateTime.Utc
    ) => Effect.Effect<boolean>
    /** Stores the response for later attempts, if the attempt whose lease counts from `held` still holds the key. */
    readonly answer: (
      scope: AccountScope,
      key: IdempotencyKey,
      held: DateTime.Utc,
      answer: SavedResponse
    ) => Effect.Effect<void>
    /** Deletes a request that failed before it changed anything, if the attempt still holds the key. */
    readonly forget: (scope: AccountScope, key: IdempotencyKey, held: DateTime.Utc) => Effect.Effect<void>
    /** Deletes the requests of all accounts that began before `before`. Returns their number. */
    readonly sweep: (before: DateTime.Utc) => Effect.Effect<number>
  }
>()("domain/identity/IdempotencyStore") {}
