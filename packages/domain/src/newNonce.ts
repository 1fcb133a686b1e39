import { Effect, Option } from "effect"
import type { SecureRandom } from "effect/crypto/SecureRandom"

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

/** 100 random bits in lower-case base 32, so that they can stand in a host name: what makes an id impossible to guess. */
export const newNonce = (random: SecureRandom["Service"]): Effect.Effect<string> =>
  Effect.map(random.randomBytes(20), (bytes) => Array.from(bytes, (byte) => alphabet[byte % 32]).join(""))

/** The nonce that makes asking repeatable, where one was given; else a new one. */
export const givenOrNew = (random: SecureRandom["Service"], given: Option.Option<string>): Effect.Effect<string> =>
  Option.match(given, { onNone: () => newNonce(random), onSome: (nonce) => Effect.succeed(nonce) })
