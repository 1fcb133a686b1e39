import { keyPrefix } from "@castellan/domain/identity/ApiKey.ts"
import { ApiKeys, KeyRefused } from "@castellan/domain/identity/ApiKeys.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { Effect, Layer, Redacted } from "effect"
import { type Headers, HttpServerRequest } from "effect/http"
import { Authenticated } from "./api/Authenticated.ts"
import { CredentialsUnclear } from "./api/Statuses.ts"

/** The key that the headers bring, where they bring exactly one; an empty header counts as none. */
export const keyIn = (
  headers: Headers.Headers
): Effect.Effect<Redacted.Redacted<string>, CredentialsUnclear | KeyRefused> => {
  const apiKey = headers["x-api-key"]?.trim() ?? ""
  const authorization = headers["authorization"]?.trim() ?? ""
  if ((apiKey === "") === (authorization === "")) return Effect.fail(new CredentialsUnclear())
  if (apiKey !== "") return Effect.succeed(Redacted.make(apiKey))
  const bearer = /^Bearer +(\S+)$/i.exec(authorization)?.[1]
  return bearer?.startsWith(keyPrefix) ? Effect.succeed(Redacted.make(bearer)) : Effect.fail(new KeyRefused())
}

export const layer = Layer.effect(
  Authenticated,
  Effect.gen(function* () {
    const keys = yield* ApiKeys
    return Authenticated.of((endpoint) =>
      HttpServerRequest.HttpServerRequest.pipe(
        Effect.flatMap((request) => keyIn(request.headers)),
        Effect.flatMap(keys.authenticate),
        Effect.flatMap((actor) => Effect.provideService(endpoint, CurrentActor, actor))
      )
    )
  })
)
