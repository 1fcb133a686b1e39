import { Effect } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

/** The digits of 20 bytes in base 32: 100 bits, in lower case, so that an id can stand in a host name. */
export const digits = (bytes: Uint8Array): string =>
  Array.from(bytes.subarray(0, 20), (byte) => alphabet[byte % 32]).join("")

/** A new id that can't be guessed: the prefix, `_`, and 100 random bits. */
export const newId = Effect.fnUntraced(function* (prefix: string) {
  const random = yield* SecureRandom
  return `${prefix}_${digits(yield* random.randomBytes(20))}`
})
