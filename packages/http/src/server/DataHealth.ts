/** Health of the server's data directory, for `/ready`. */
import { Context, Effect } from "effect"

/** The current problem as the end of a sentence that begins with "The data directory", or undefined if it is healthy. */
export class DataHealth extends Context.Reference<Effect.Effect<string | undefined>>("http/DataHealth", {
  defaultValue: () => Effect.succeed(undefined)
}) {}
