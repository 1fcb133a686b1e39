/** What is wrong with the data directory of this server, for `/ready`. */
import { Context, Effect } from "effect"

/** What is wrong by now, in words that follow "The data directory"; undefined if nothing is, or if there is none. */
export class DataHealth extends Context.Reference<Effect.Effect<string | undefined>>("http/DataHealth", {
  defaultValue: () => Effect.succeed(undefined)
}) {}
