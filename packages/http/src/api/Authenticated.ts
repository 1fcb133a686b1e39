import type { CurrentCredential } from "@castellan/domain/identity/Credential.ts"
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { HttpApiMiddleware } from "effect/http-api"
import { Statuses } from "./Statuses.ts"

/** Lets in who brings exactly one good credential, and says who that is; not more often than the account may. */
export class Authenticated extends HttpApiMiddleware.Service<
  Authenticated,
  { provides: CurrentActor | CurrentCredential }
>()("http/api/Authenticated", {
  error: [
    Statuses.CredentialsUnclear,
    Statuses.InvalidCredential,
    Statuses.IdentityProviderUnavailable,
    Statuses.RateLimited,
    Statuses.TooManyStreams
  ]
}) {}
