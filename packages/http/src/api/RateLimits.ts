/** Declares the rate limit of an account's requests, and the quota of its open streams. */
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { HttpApiMiddleware } from "effect/http-api"
import { Statuses } from "./Statuses.ts"

/** Counts the request against the caller's rate limit. */
export class RateLimits extends HttpApiMiddleware.Service<RateLimits, { requires: CurrentActor }>()(
  "http/api/RateLimits",
  { error: [Statuses.RateLimited, Statuses.TooManyStreams] }
) {}
