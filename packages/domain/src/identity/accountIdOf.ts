import { Effect } from "effect"
import type { Digest } from "effect/crypto/Digest"
import { uuidOf } from "../uuidOf.ts"
import { AccountId } from "./Account.ts"

/** The id that a nonce stands for, always the same. */
export const accountIdOf = (digest: Digest["Service"], nonce: string): Effect.Effect<AccountId> =>
  Effect.map(uuidOf(digest, `account ${nonce}`), (id) => AccountId.make(id))
