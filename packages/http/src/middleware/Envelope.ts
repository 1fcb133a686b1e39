/** What every answer has, whatever gave it: one form of error, a request id, CORS, and no word too many. */
import { newNonce } from "@castellan/domain/newNonce.ts"
import { DatabaseUnavailable } from "@castellan/domain/DatabaseUnavailable.ts"
import { ByteSize, Cause, Clock, Effect, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { HttpIncomingMessage, HttpServerError, HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiError } from "effect/http-api"
import { logAccess } from "./AccessLog.ts"
import { changeLimit } from "../api/groups/Apps.ts"
import { type ErrorBody, errorBody } from "../api/ErrorBody.ts"
import { fileLimit } from "../api/groups/SandboxOperations.ts"
import { cors } from "./Cors.ts"
import { RequestStartTime } from "./RequestStartTime.ts"
import { RequestJson } from "./RequestJson.ts"
import { isWellEncoded, methodsAt, routeOf } from "./Routes.ts"
import { describe } from "./Validation.ts"

/** Bytes of a request's body, unless its endpoint takes more. */
export const bodyLimit = 1024 * 1024

/** Whether the request uploads the bytes of a file. */
const bringsFile = ({ method, url }: HttpServerRequest.HttpServerRequest) =>
  method === "PUT" && routeOf(url).route === "/api/sandboxes/{sandboxId}/file"

/** How many bytes the request's body may have. */
const limitOf = (request: HttpServerRequest.HttpServerRequest): number => {
  if (bringsFile(request)) return fileLimit
  return routeOf(request.url).route === "/api/apply/stream" ? changeLimit : bodyLimit
}

/** The body is not JSON. A defect, since no handler can do anything about it. */
class BodyNotJson {
  readonly _tag = "BodyNotJson"
}

const preflight = {
  ...cors,
  "access-control-allow-methods": "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
  "access-control-allow-headers":
    "content-type, authorization, x-api-key, idempotency-key, x-request-id, last-event-id",
  "access-control-max-age": "86400"
}

const isRequestId = (text: string | undefined): text is string => text !== undefined && /^[\w.:-]{1,128}$/.test(text)

const answer = (status: number, body: ErrorBody, headers: Record<string, string> = {}) =>
  HttpServerResponse.jsonUnsafe(body, { status, headers })

const tooLarge = (limit: number) =>
  answer(413, errorBody("body_too_large", `Request body must be at most ${limit / 1024 / 1024} MiB`), {
    connection: "close"
  })
const notJson = errorBody("invalid_json", "Request body must be valid JSON")
const badPath = errorBody("invalid_request", "The path must be percent-encoded UTF-8")
const notFound = errorBody("not_found", "Not found")
const notAllowed = errorBody("method_not_allowed", "Method not allowed")
const unsupported = errorBody("unsupported_media_type", "Content-Type must be application/json")
const unsupportedFile = errorBody("unsupported_media_type", "Content-Type must be application/octet-stream")
const storeAway = (reason = "The store does not answer") => errorBody("not_ready", reason, { retryAfterMs: 1000 })
const internal = errorBody("internal_error", "Internal server error")

const utf8 = new TextDecoder("utf-8", { fatal: true })

const parse = (bytes: ArrayBuffer) => {
  try {
    const text = utf8.decode(bytes)
    return text.trim() === "" ? { text: "{}", json: {} } : { text, json: JSON.parse(text) as unknown }
  } catch {
    return undefined
  }
}

/** The request as handlers see it: an empty body is `{}`, and a body is read and parsed once. */
const readable = Effect.fnUntraced(function* (request: HttpServerRequest.HttpServerRequest) {
  const body = yield* Effect.cached(
    Effect.flatMap(request.arrayBuffer, (bytes) => {
      const parsed = parse(bytes)
      return parsed === undefined ? Effect.die(new BodyNotJson()) : Effect.succeed(parsed)
    })
  )
  const text = { value: Effect.map(body, (parsed) => parsed.text) }
  // Effect fails to stream the body of a web request that has none.
  const stream = { value: Stream.empty }
  const hasNone = request.source instanceof Request && request.source.body === null
  return {
    request: Object.create(request, hasNone ? { text, stream } : { text }) as HttpServerRequest.HttpServerRequest,
    json: Effect.orDie(Effect.map(body, (parsed) => parsed.json))
  }
})

const isTooLarge = (failure: unknown) =>
  failure instanceof HttpServerError.HttpServerError &&
  failure.reason._tag === "RequestParseError" &&
  failure.reason.reason === "BodyTooLarge"

/** The answer to a request that no operation is for: its path is invalid or unknown, or its method is wrong. */
const unrouted = ({ method, url }: HttpServerRequest.HttpServerRequest) => {
  if (!isWellEncoded(url)) return answer(400, badPath)
  const methods = methodsAt(url)
  if (methods.length === 0) return answer(404, notFound)
  return methods.includes(method) ? undefined : answer(405, notAllowed, { allow: methods.join(", ") })
}

const explain = (request: HttpServerRequest.HttpServerRequest, cause: Cause.Cause<unknown>) => {
  const failure = Cause.squash(cause)
  if (isTooLarge(failure)) return Effect.succeed(tooLarge(limitOf(request)))
  if (failure instanceof DatabaseUnavailable) {
    return Effect.as(Effect.logWarning("the store is away", cause), answer(503, storeAway(failure.reason)))
  }
  if (failure instanceof BodyNotJson) return Effect.succeed(answer(400, notJson))
  if (HttpApiError.HttpApiSchemaError.is(failure) && failure.kind !== "Body") {
    return Effect.succeed(answer(400, describe(failure)))
  }
  if (failure instanceof HttpServerError.HttpServerError && failure.reason._tag === "RouteNotFound") {
    return Effect.succeed(answer(404, notFound))
  }
  return Effect.as(Effect.logError("a request broke off", cause), answer(500, internal))
}

/** The body of an error in our form; undefined for one that the router or a decoder gave in its own words. */
const bodyOf = ({ body }: HttpServerResponse.HttpServerResponse): ErrorBody | undefined =>
  body._tag === "Uint8Array" && body.contentType.startsWith("application/json")
    ? (JSON.parse(new TextDecoder().decode(body.body)) as ErrorBody)
    : undefined

/** Errors in our own words, with the header for those that are worth asking again. */
const reword = (request: HttpServerRequest.HttpServerRequest, response: HttpServerResponse.HttpServerResponse) => {
  if (response.status < 400) return response
  const body = bodyOf(response)
  if (body?.retryAfterMs !== undefined) {
    return HttpServerResponse.setHeader(response, "retry-after", String(Math.ceil(body.retryAfterMs / 1000)))
  }
  if (body !== undefined) return response
  if (response.status === 415) return answer(415, bringsFile(request) ? unsupportedFile : unsupported)
  if (response.status === 413) return tooLarge(limitOf(request))
  return answer(response.status, internal)
}

/** Gives an application what every answer has. */
export const around = <E, R>(
  app: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  E,
  R | HttpServerRequest.HttpServerRequest | SecureRandom.SecureRandom
> =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const given = request.headers["x-request-id"]
    const arrivedAt = yield* Clock.currentTimeMillis
    const id = isRequestId(given) ? given : `req_${yield* newNonce(yield* SecureRandom.SecureRandom)}`
    if (request.method === "OPTIONS") {
      return HttpServerResponse.empty({ status: 204, headers: { ...preflight, "x-request-id": id } })
    }
    const declared = Number(request.headers["content-length"] ?? 0)
    const limit = limitOf(request)
    const refused = unrouted(request) ?? (declared > limit ? tooLarge(limit) : undefined)
    const { json, request: read } = yield* readable(request)
    const response =
      refused !== undefined
        ? yield* logAccess(id, arrivedAt)(Effect.succeed(refused))
        : yield* app.pipe(
            Effect.provideService(HttpServerRequest.HttpServerRequest, read),
            Effect.provideService(RequestJson, json),
            Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(limit)),
            Effect.provideService(RequestStartTime, arrivedAt),
            Effect.catchCause((cause) =>
              Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : explain(request, cause)
            ),
            Effect.map((response) => reword(request, response)),
            logAccess(id, arrivedAt)
          )
    return HttpServerResponse.setHeaders(response, { ...cors, "x-request-id": id })
  })
