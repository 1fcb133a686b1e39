/** Gives every error response the same body, also for unknown routes, malformed bodies and defects. */
import { DatabaseUnavailable } from "@castellan/domain/DatabaseUnavailable.ts"
import { Cause, Effect } from "effect"
import { HttpServerError, type HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiError } from "effect/http-api"
import { BodyLimit } from "../api/BodyLimit.ts"
import { type ErrorBody, errorBody } from "../api/ErrorBody.ts"
import {
  BodyNotJson,
  BodyTooLarge,
  InternalError,
  MediaTypeUnsupported,
  MethodNotAllowed,
  NotReady,
  RouteNotFound,
  Statuses
} from "../api/Statuses.ts"
import { isWellEncoded, methodsAt, operationAt } from "./Routes.ts"
import { describe } from "./Validation.ts"

type Request = Pick<HttpServerRequest.HttpServerRequest, "method" | "url">

const respond = <E>(
  { status, toBody }: { readonly status: number; readonly toBody: (error: E) => ErrorBody },
  error: E,
  headers: Record<string, string> = {}
) => HttpServerResponse.jsonUnsafe(toBody(error), { status, headers })

const invalid = (body: ErrorBody) => HttpServerResponse.jsonUnsafe(body, { status: 400 })

const internal = () => respond(Statuses.InternalError, new InternalError())

/** The largest body that the request may have, in bytes. */
export const bodyLimitOf = ({ method, url }: Request): number =>
  operationAt(method, url)?.bodyLimit ?? BodyLimit.defaultValue()

/** The response to a request whose body is too large. It closes the connection, since the body is not read. */
export const tooLarge = (request: Request) =>
  respond(Statuses.BodyTooLarge, new BodyTooLarge({ limit: bodyLimitOf(request) }), { connection: "close" })

/** The response to a request without an operation: its path is malformed or unknown, or its method is wrong. */
export const unrouted = ({ method, url }: Request) => {
  if (!isWellEncoded(url)) return invalid(errorBody("invalid_request", "The path must be percent-encoded UTF-8"))
  const methods = methodsAt(url)
  if (methods.length === 0) return respond(Statuses.RouteNotFound, new RouteNotFound())
  if (methods.includes(method)) return undefined
  return respond(Statuses.MethodNotAllowed, new MethodNotAllowed(), { allow: methods.join(", ") })
}

const isTooLarge = (failure: unknown) =>
  failure instanceof HttpServerError.HttpServerError &&
  failure.reason._tag === "RequestParseError" &&
  failure.reason.reason === "BodyTooLarge"

/** The response to a request whose handling failed with something other than a declared error. */
export const fromCause = (request: Request, cause: Cause.Cause<unknown>) => {
  const failure = Cause.squash(cause)
  if (isTooLarge(failure)) return Effect.succeed(tooLarge(request))
  if (failure instanceof BodyNotJson) return Effect.succeed(respond(Statuses.BodyNotJson, failure))
  if (failure instanceof DatabaseUnavailable) {
    const notReady = new NotReady({ say: failure.reason ?? "The store does not answer" })
    return Effect.as(Effect.logWarning("Database unavailable", cause), respond(Statuses.NotReady, notReady))
  }
  if (HttpApiError.HttpApiSchemaError.is(failure) && failure.kind !== "Body") {
    return Effect.succeed(invalid(describe(failure)))
  }
  if (failure instanceof HttpServerError.HttpServerError && failure.reason._tag === "RouteNotFound") {
    return Effect.succeed(respond(Statuses.RouteNotFound, new RouteNotFound()))
  }
  return Effect.as(Effect.logError("Request failed", cause), internal())
}

/** The error body of the response; undefined if it is the router's or a decoder's own error. */
const bodyOf = ({ body }: HttpServerResponse.HttpServerResponse): ErrorBody | undefined =>
  body._tag === "Uint8Array" && body.contentType.startsWith("application/json")
    ? (JSON.parse(new TextDecoder().decode(body.body)) as ErrorBody)
    : undefined

/** Replaces errors of the router and of decoders by the API's, and adds `retry-after` if a retry may succeed. */
export const normalize = (request: Request, response: HttpServerResponse.HttpServerResponse) => {
  if (response.status < 400) return response
  const body = bodyOf(response)
  if (body?.retryAfterMs !== undefined) {
    return HttpServerResponse.setHeader(response, "retry-after", String(Math.ceil(body.retryAfterMs / 1000)))
  }
  if (body !== undefined) return response
  if (response.status === 413) return tooLarge(request)
  if (response.status === 415) {
    const expected = operationAt(request.method, request.url)?.mediaType ?? "application/json"
    return respond(Statuses.MediaTypeUnsupported, new MediaTypeUnsupported({ expected }))
  }
  return internal()
}
