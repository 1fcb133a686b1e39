/** What stores do that don't keep their promises. */
import { Effect, Option } from "effect"

/** Finds nothing. */
export const none = () => Effect.succeed(Option.none())

/** Decides on what it read a moment ago, as two statements would. */
export const late = <A, E>(decided: Effect.Effect<Effect.Effect<A, E>>) =>
  decided.pipe(Effect.tap(Effect.sleep("10 millis")), Effect.flatten)

/** What a database does that has no NUL. */
export const withoutNul = (given: unknown) =>
  JSON.stringify(given).includes("\\u0000") ? Effect.die("invalid byte sequence") : Effect.void
