import { Context, Effect } from "effect"

/** The body of the current request, read and parsed as JSON once; an empty body is `{}`. */
export const RequestJson = Context.Reference<Effect.Effect<unknown>>("http/RequestJson", {
  defaultValue: () => Effect.succeed({})
})
