import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { Context, Option } from "effect"
import { HttpApiMiddleware } from "effect/http-api"
import { Statuses } from "./Statuses.ts"

/** Answers a request that comes again under its `Idempotency-Key` as it was answered the first time. */
export class Idempotent extends HttpApiMiddleware.Service<Idempotent, { requires: CurrentActor }>()(
  "http/api/Idempotent",
  { error: [Statuses.IdempotencyKeyReused, Statuses.IdempotencyInFlight, Statuses.RequestRefused] }
) {}

/** What every attempt at one request has in common, for naming what it makes; none where it bears no key. */
export const RequestNonce = Context.Reference<Option.Option<string>>("http/api/RequestNonce", {
  defaultValue: Option.none
})
