/** What an account asked under an idempotency key, and what it was answered. */
import { Context, Data, type DateTime, type Effect, Schema } from "effect"
import type { AccountScope } from "./AccountScope.ts"

/** The caller's own word for one request: 1 to 255 printable characters. */
export const IdempotencyKey = Schema.String.check(Schema.isPattern(/^[\x20-\x7e]{1,255}$/)).pipe(
  Schema.brand("IdempotencyKey")
)
export type IdempotencyKey = typeof IdempotencyKey.Type

/** An answer as it was sent. */
export class SavedAnswer extends Schema.Class<SavedAnswer>("SavedAnswer")({
  status: Schema.Int,
  body: Schema.String
}) {}

/** What is known of a request when it comes in. */
export type Asked = Data.TaggedEnum<{
  /** Nobody asked it before, or whoever did was cut off: do it. The nonce is the same for every attempt. */
  First: { readonly nonce: string }
  /** It was answered; this is the answer. */
  Answered: { readonly answer: SavedAnswer }
  /** It is being done right now. */
  InFlight: {}
  /** The key was used for another request. */
  Reused: {}
}>
export const Asked = Data.taggedEnum<Asked>()

/** Milliseconds for which an answer is kept. */
export const answersKept = 24 * 60 * 60 * 1000

/**
 * Milliseconds for which an attempt holds its key since it began or last renewed its lease. After that its server counts
 * as dead, and the request may be begun again.
 */
export const keyLease = 10_000

export class IdempotencyStore extends Context.Service<
  IdempotencyStore,
  {
    /**
     * Takes the key for this request, atomically: of two that ask at once one is `First` and the other `InFlight`.
     * `request` is a digest of what is asked; `nonce` is kept if this is the first attempt. `First` holds the key under a
     * lease of `keyLease` from `at`. A request whose lease has lapsed, and that has no answer, may be begun again with its
     * first nonce; one that is older than `answersKept` is forgotten. A store that only one server can have open lets all
     * leases lapse when it is opened, since their holders are dead.
     */
    readonly begin: (
      scope: AccountScope,
      key: IdempotencyKey,
      asked: { readonly request: string; readonly nonce: string; readonly at: DateTime.Utc }
    ) => Effect.Effect<Asked>
    /**
     * Renews the lease of the attempt that began, or last renewed it, at `held`; it then counts from `at`. False if the
     * attempt no longer holds the key.
     */
    readonly renew: (
      scope: AccountScope,
      key: IdempotencyKey,
      held: DateTime.Utc,
      at: DateTime.Utc
    ) => Effect.Effect<boolean>
    /** Keeps the answer for those who ask again, if the attempt whose lease counts from `held` still holds the key. */
    readonly answer: (
      scope: AccountScope,
      key: IdempotencyKey,
      held: DateTime.Utc,
      answer: SavedAnswer
    ) => Effect.Effect<void>
    /** Forgets a request that was refused before it did anything, if the attempt still holds the key. */
    readonly forget: (scope: AccountScope, key: IdempotencyKey, held: DateTime.Utc) => Effect.Effect<void>
    /** Forgets what was begun before `before`, of all accounts; gives the number forgotten. */
    readonly sweep: (before: DateTime.Utc) => Effect.Effect<number>
  }
>()("domain/identity/IdempotencyStore") {}
