import { Effect, Option } from "effect"
import type { SecureRandom } from "effect/crypto/SecureRandom"

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

/** 100 random bits in lower-case base 32, which is valid in a host name. Makes an id impossible to guess. */
export const newNonce = (random: SecureRandom["Service"]): Effect.Effect<string> =>
  Effect.map(random.randomBytes(20), (bytes) => Array.from(bytes, (byte) => alphabet[byte % 32]).join(""))

/** The nonce of the request, which makes it idempotent, or a new one if it has none. */
export const givenOrNew = (random: SecureRandom["Service"], given: Option.Option<string>): Effect.Effect<string> =>
  Option.match(given, { onNone: () => newNonce(random), onSome: (nonce) => Effect.succeed(nonce) })
