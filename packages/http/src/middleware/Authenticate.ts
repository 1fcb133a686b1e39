import { keyPrefix } from "@castellan/domain/identity/ApiKey.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { CurrentCredential, InvalidCredential } from "@castellan/domain/identity/Credential.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { annotateIds } from "@castellan/domain/Metrics.ts"
import { Effect, Layer, Redacted } from "effect"
import { type Headers, HttpServerRequest } from "effect/http"
import { Authenticated } from "../api/Authenticated.ts"
import { CredentialsUnclear } from "../api/Statuses.ts"
import { Limits } from "./Limits.ts"
import { AccessLogFields } from "./AccessLog.ts"
import { Tokens } from "./Tokens.ts"

/** The secret by which the caller authenticates. */
interface Presented {
  readonly kind: "key" | "token"
  readonly secret: Redacted.Redacted<string>
}

const presented = (kind: Presented["kind"], secret: string): Presented => ({ kind, secret: Redacted.make(secret) })

/** The credential that the headers bring, where they bring exactly one; an empty header counts as none. */
export const credentialIn = (
  headers: Headers.Headers
): Effect.Effect<Presented, CredentialsUnclear | InvalidCredential> => {
  const apiKey = headers["x-api-key"]?.trim() ?? ""
  const authorization = headers["authorization"]?.trim() ?? ""
  if ((apiKey === "") === (authorization === "")) return Effect.fail(new CredentialsUnclear())
  if (apiKey !== "") return Effect.succeed(presented("key", apiKey))
  const bearer = /^Bearer +(\S+)$/i.exec(authorization)?.[1]
  if (bearer === undefined) return Effect.fail(new InvalidCredential())
  return Effect.succeed(presented(bearer.startsWith(keyPrefix) ? "key" : "token", bearer))
}

export const layer = Layer.effect(
  Authenticated,
  Effect.gen(function* () {
    const keys = yield* ApiKeys
    const tokens = yield* Tokens
    const limits = yield* Limits
    return Authenticated.of((endpoint) =>
      HttpServerRequest.HttpServerRequest.pipe(
        Effect.flatMap((request) => credentialIn(request.headers)),
        Effect.flatMap(({ kind, secret }) => (kind === "key" ? keys : tokens).authenticate(secret)),
        Effect.tap(({ account: { id } }) => Effect.map(AccessLogFields, (facts) => void (facts.account = id))),
        Effect.tap(({ account: { id } }) => limits.request(id)),
        Effect.flatMap(({ account, credential }) =>
          endpoint.pipe(
            Effect.provideService(CurrentActor, account),
            Effect.provideService(CurrentCredential, credential),
            annotateIds({ account: account.id })
          )
        )
      )
    )
  })
)
