/** Authenticates the caller by the one credential of the request. */
import { keyPrefix } from "@castellan/domain/identity/ApiKey.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { type Authentication, CurrentCredential, InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { annotateIds } from "@castellan/domain/Metrics.ts"
import { Effect, Layer, Redacted } from "effect"
import { type Headers, HttpServerRequest } from "effect/http"
import { Authenticated } from "../api/Authenticated.ts"
import { CredentialsUnclear } from "../api/Statuses.ts"
import { AccessLogFields } from "./AccessLog.ts"
import { Tokens } from "./Tokens.ts"

interface Presented {
  /** The header that has the credential. */
  readonly scheme: keyof (typeof Authenticated)["security"]
  readonly kind: "key" | "token"
  readonly secret: Redacted.Redacted<string>
}

/** The credential in the headers. They must have exactly one; an empty header counts as absent. */
export const credentialIn = (
  headers: Headers.Headers
): Effect.Effect<Presented, CredentialsUnclear | InvalidCredential> => {
  const apiKey = headers["x-api-key"]?.trim() ?? ""
  const authorization = headers["authorization"]?.trim() ?? ""
  if ((apiKey === "") === (authorization === "")) return Effect.fail(new CredentialsUnclear())
  if (apiKey !== "") return Effect.succeed({ scheme: "apiKey", kind: "key", secret: Redacted.make(apiKey) })
  const bearer = /^Bearer +(\S+)$/i.exec(authorization)?.[1]
  if (bearer === undefined) return Effect.fail(new InvalidCredential())
  const kind = bearer.startsWith(keyPrefix) ? "key" : "token"
  return Effect.succeed({ scheme: "bearer", kind, secret: Redacted.make(bearer) })
}

export const layer = Layer.effect(
  Authenticated,
  Effect.gen(function* () {
    const keys = yield* ApiKeys
    const tokens = yield* Tokens

    /**
     * Authenticates by one scheme. The schemes are tried in order, and the error of the last is the response, so a scheme
     * looks up only the credential of its own header.
     */
    const authenticate = Effect.fnUntraced(function* (scheme: Presented["scheme"]) {
      const { headers } = yield* HttpServerRequest.HttpServerRequest
      const presented = yield* credentialIn(headers)
      if (presented.scheme !== scheme) return yield* new InvalidCredential()
      const { account, credential }: Authentication = yield* (presented.kind === "key" ? keys : tokens).authenticate(
        presented.secret
      )
      const fields = yield* AccessLogFields
      fields.account = account.id
      return { account, credential }
    })

    const by =
      (scheme: Presented["scheme"]): (typeof Authenticated)["Service"][typeof scheme] =>
      (endpoint) =>
        Effect.flatMap(authenticate(scheme), ({ account, credential }) =>
          endpoint.pipe(
            Effect.provideService(CurrentActor, account),
            Effect.provideService(CurrentCredential, credential),
            annotateIds({ account: account.id })
          )
        )

    return Authenticated.of({ apiKey: by("apiKey"), bearer: by("bearer") })
  })
)
