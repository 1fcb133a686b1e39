/** The middleware of every request: a request id, CORS, a body limit, error bodies and an access log. */
import { ByteSize, Cause, Clock, Effect } from "effect"
import type { SecureRandom } from "effect/crypto"
import { HttpIncomingMessage, HttpServerRequest, HttpServerResponse } from "effect/http"
import { logAccess } from "./AccessLog.ts"
import { cors, preflight } from "./Cors.ts"
import * as ErrorEnvelope from "./ErrorEnvelope.ts"
import { RequestStartTime } from "./RequestStartTime.ts"
import { readOnce } from "./RequestBody.ts"
import { requestIdHeader, requestIdOf } from "./RequestId.ts"
import { RequestJson } from "./RequestJson.ts"

/** Wraps the application. */
export const wrap = <E, R>(
  app: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>
): Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  E,
  R | HttpServerRequest.HttpServerRequest | SecureRandom.SecureRandom
> =>
  Effect.gen(function* () {
    const request = yield* HttpServerRequest.HttpServerRequest
    const arrivedAt = yield* Clock.currentTimeMillis
    const id = yield* requestIdOf(request)
    const headers = { ...cors, [requestIdHeader]: id }
    if (request.method === "OPTIONS") {
      return HttpServerResponse.empty({ status: 204, headers: { ...preflight, ...headers } })
    }
    const limit = ErrorEnvelope.bodyLimitOf(request)
    const isOverLimit = Number(request.headers["content-length"] ?? 0) > limit
    const refusal = ErrorEnvelope.unrouted(request) ?? (isOverLimit ? ErrorEnvelope.tooLarge(request) : undefined)
    const { json, request: readable } = yield* readOnce(request)
    const answered = app.pipe(
      Effect.provideService(HttpServerRequest.HttpServerRequest, readable),
      Effect.provideService(RequestJson, json),
      Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.bytes(limit)),
      Effect.provideService(RequestStartTime, arrivedAt),
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause) ? Effect.failCause(cause) : ErrorEnvelope.fromCause(request, cause)
      ),
      Effect.map((response) => ErrorEnvelope.normalize(request, response))
    )
    const response =
      refusal === undefined
        ? yield* logAccess(id, arrivedAt)(answered)
        : yield* logAccess(id, arrivedAt)(Effect.succeed(refusal))
    return HttpServerResponse.setHeaders(response, headers)
  })
