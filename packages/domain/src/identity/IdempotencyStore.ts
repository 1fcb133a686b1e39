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

/** Milliseconds after which a request without an answer counts as cut off. */
export const cutOffAfter = 60_000

export class IdempotencyStore extends Context.Service<
  IdempotencyStore,
  {
    /**
     * Takes the key for this request, atomically: of two that ask at once one is `First` and the other `InFlight`.
     * `request` is a digest of what is asked; `nonce` is kept if this is the first attempt. A request that was begun
     * more than `cutOffAfter` ago and not answered may be begun again, with its first nonce; one that is older than
     * `answersKept` is forgotten.
     */
    readonly begin: (
      scope: AccountScope,
      key: IdempotencyKey,
      asked: { readonly request: string; readonly nonce: string; readonly at: DateTime.Utc }
    ) => Effect.Effect<Asked>
    /** Keeps the answer for those who ask again. */
    readonly answer: (scope: AccountScope, key: IdempotencyKey, answer: SavedAnswer) => Effect.Effect<void>
    /** Forgets a request that was refused before it did anything. */
    readonly forget: (scope: AccountScope, key: IdempotencyKey) => Effect.Effect<void>
    /** Forgets what was begun before `before`, of all accounts; gives the number forgotten. */
    readonly sweep: (before: DateTime.Utc) => Effect.Effect<number>
  }
>()("domain/identity/IdempotencyStore") {}
