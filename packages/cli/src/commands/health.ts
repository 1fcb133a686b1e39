/** `castellan health`: shows whether a server is ready. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { ask } from "../client/Client.ts"
import * as Output from "../output/Output.ts"

export const health = Command.make(
  "health",
  {},
  Effect.fnUntraced(function* () {
    const answer = yield* ask("system.ready")
    yield* Output.present(
      answer,
      ({ provider, status }) => `${status}, sandboxes by ${provider.name} (${provider.isolation})`
    )
  })
).pipe(
  Command.withDescription("Show whether the server is ready, and which provider it uses. Needs no API key"),
  Command.withExamples([{ command: "castellan health --url https://castellan.example.com" }])
)
