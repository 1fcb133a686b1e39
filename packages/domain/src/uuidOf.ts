import { Effect } from "effect"
import { type Digest, sha256 } from "effect/crypto/Digest"
import { encode } from "./utf8.ts"

/** A UUID of version 8 made from the SHA-256 of a text. The same text gives the same UUID. */
export const uuidOf = (digest: Digest["Service"], text: string): Effect.Effect<string> =>
  Effect.map(digest.digestHex(sha256, encode(text)), (hex) =>
    [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20, 32)].join("-")
  )
