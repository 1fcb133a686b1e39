/** Defects that mutants of several stores share. */
import { Effect, Option } from "effect"

/** Finds nothing. */
export const none = () => Effect.succeed(Option.none())

/** Runs a decision 10 ms after it was made, like a store that reads and writes in two statements. */
export const late = <A, E>(decided: Effect.Effect<Effect.Effect<A, E>>) =>
  decided.pipe(Effect.tap(Effect.sleep("10 millis")), Effect.flatten)

/** Fails for a text with a NUL character, as a database without NUL does. */
export const withoutNul = (given: unknown) =>
  JSON.stringify(given).includes("\\u0000") ? Effect.die("invalid byte sequence") : Effect.void
