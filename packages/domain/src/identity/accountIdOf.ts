import { Effect } from "effect"
import { type Digest, sha256 } from "effect/crypto/Digest"
import { encode } from "../utf8.ts"
import { AccountId } from "./Account.ts"

/** The id that a nonce stands for, always the same: a UUID of version 8 whose other bits are of the nonce's digest. */
export const accountIdOf = (digest: Digest["Service"], nonce: string): Effect.Effect<AccountId> =>
  Effect.map(digest.digestHex(sha256, encode(`account ${nonce}`)), (hex) =>
    AccountId.make(
      [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join("-")
    )
  )
