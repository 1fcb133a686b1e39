import { Effect } from "effect"
import type { Digest } from "effect/crypto/Digest"
import { uuidOf } from "../uuidOf.ts"
import { AccountId } from "./Account.ts"

/** The id of the account created with a nonce. The same nonce gives the same id. */
export const accountIdOf = (digest: Digest["Service"], nonce: string): Effect.Effect<AccountId> =>
  Effect.map(uuidOf(digest, `account ${nonce}`), (id) => AccountId.make(id))
