/** Declares authentication: its security schemes, and the authenticated caller. */
import type { CurrentCredential } from "@castellan/domain/identity/Credential.ts"
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { HttpApiMiddleware, HttpApiSecurity, OpenApi } from "effect/http-api"
import { Statuses } from "./Statuses.ts"

/** Requires exactly one valid credential. An operation without this middleware is public. */
export class Authenticated extends HttpApiMiddleware.Service<
  Authenticated,
  { provides: CurrentActor | CurrentCredential }
>()("http/api/Authenticated", {
  error: [Statuses.CredentialsUnclear, Statuses.InvalidCredential, Statuses.IdentityProviderUnavailable],
  security: {
    apiKey: HttpApiSecurity.apiKey({ in: "header", key: "x-api-key" }),
    bearer: HttpApiSecurity.http({ scheme: "bearer" }).pipe(
      HttpApiSecurity.annotate(OpenApi.Description, "An API key, or a JWT of the configured identity provider")
    )
  }
}) {}
