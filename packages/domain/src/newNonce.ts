import { Effect } from "effect"
import type { SecureRandom } from "effect/crypto/SecureRandom"

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

/** 100 random bits in lower-case base 32, so that they can stand in a host name: what makes an id impossible to guess. */
export const newNonce = (random: SecureRandom["Service"]): Effect.Effect<string> =>
  Effect.map(random.randomBytes(20), (bytes) => Array.from(bytes, (byte) => alphabet[byte % 32]).join(""))
