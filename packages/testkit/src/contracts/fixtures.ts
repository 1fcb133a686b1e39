/** Values that the contracts of several ports use. */
import { DateTime, Effect } from "effect"
import { SecureRandom } from "effect/crypto"

export const at = (millis: number) => DateTime.makeUnsafe(millis)

/** Text that no other test uses. */
export const unique = () => SecureRandom.uuidV4Unsafe().replaceAll("-", "")

export const atOnce = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.all(effects, { concurrency: "unbounded" })
