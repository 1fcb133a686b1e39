/** Declares that an operation takes an `Idempotency-Key`. */
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { Context, Option } from "effect"
import { HttpApiMiddleware } from "effect/http-api"
import { Statuses } from "./Statuses.ts"

/** Replays the saved response to a repeated request with the same `Idempotency-Key`. Every operation that creates has it. */
export class Idempotent extends HttpApiMiddleware.Service<Idempotent, { requires: CurrentActor }>()(
  "http/api/Idempotent",
  { error: [Statuses.IdempotencyKeyReused, Statuses.IdempotencyInFlight, Statuses.RequestRefused] }
) {}

/**
 * A value that is the same for every attempt with one idempotency key. Use cases derive the names of what they create from
 * it, so that a repeated attempt creates nothing twice. None for a request without a key.
 */
export const RequestNonce = Context.Reference<Option.Option<string>>("http/api/RequestNonce", {
  defaultValue: Option.none
})
