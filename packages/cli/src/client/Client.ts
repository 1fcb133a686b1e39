/** Sends requests to the API: with the API key, retried where that is safe, and with every failure as a `Failure`. */
import { newNonce } from "@castellan/domain/newNonce.ts"
import * as Clock from "effect/Clock"
import { SecureRandom } from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as HttpBody from "effect/http/HttpBody"
import * as HttpClient from "effect/http/HttpClient"
import type { HttpClientError } from "effect/http/HttpClientError"
import * as HttpClientRequest from "effect/http/HttpClientRequest"
import type { HttpClientResponse } from "effect/http/HttpClientResponse"
import type { ErrorBody } from "@castellan/http/api/ErrorBody.ts"
import type { Answer } from "./Answer.ts"
import { ApiRefused, type Failure, NotCastellan, Unreachable } from "./Failure.ts"
import { type Operation, type OperationId, operationOf, type ParamsOf, type ResponseOf } from "./Operations.ts"
import * as Output from "../output/Output.ts"
import { meets, waitBefore } from "./Retry.ts"
import { castellan } from "../Root.ts"
import { apiKey, serverUrl } from "../Settings.ts"
import { span } from "../output/Table.ts"

export interface Asked<Id extends OperationId> {
  /** The parameters in the path. */
  readonly params?: ParamsOf<Id>
  /** Fields that are undefined are left out. */
  readonly query?: Record<string, string | number | boolean | undefined>
  readonly headers?: Record<string, string>
  /** Sent as JSON unless it is an HttpBody. Fields that are undefined are left out. */
  readonly body?: HttpBody.HttpBody | Record<string, unknown>
}

type AnyAsked = Asked<OperationId>

/** The path with its parameters, each as one segment. */
const pathOf = (path: string, params: Readonly<Record<string, string>> = {}): string =>
  path.replaceAll(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(params[name]!))

const codeOf = (cause: unknown): string | undefined => {
  for (let at = cause; typeof at === "object" && at !== null; at = "cause" in at ? at.cause : undefined) {
    if ("code" in at && typeof at.code === "string") return at.code
  }
}

const unreachable = (url: string) => (error: HttpClientError) =>
  new Unreachable({ url, why: codeOf(error) ?? "the connection broke" })

const parse = <A>(text: string): A | undefined => {
  try {
    return JSON.parse(text) as A
  } catch {
    return undefined
  }
}

/** An error of the API as a sentence, with its reason and the time until another attempt may succeed. */
const sentenceOf = (error: string, { detail, reason, retryAfterMs }: Partial<ErrorBody>): string => {
  const why = detail ?? reason
  if (why === undefined) return error
  const again = reason === undefined || retryAfterMs === undefined ? "" : `; try again in ${span(retryAfterMs)}`
  return `${error}: ${why}${again}`
}

const refusal = Effect.fnUntraced(function* (url: string, response: HttpClientResponse) {
  const body = yield* Effect.mapError(response.text, unreachable(url))
  const error = parse<Partial<ErrorBody> | null>(body)
  if (typeof error?.error !== "string") return yield* new NotCastellan({ url, status: response.status })
  const seconds = Number.parseInt(response.headers["retry-after"] ?? "", 10)
  return yield* new ApiRefused({
    status: response.status,
    code: error.code ?? "",
    say: sentenceOf(error.error, error),
    requestId: response.headers["x-request-id"],
    retryAfter: error.retryAfterMs ?? (Number.isNaN(seconds) ? undefined : seconds * 1000),
    body
  })
})

const bodyOf = (body: AnyAsked["body"]): HttpBody.HttpBody =>
  body === undefined ? HttpBody.empty : HttpBody.isHttpBody(body) ? body : HttpBody.jsonUnsafe(body)

const definedOnly = (query: AnyAsked["query"] = {}) =>
  Object.fromEntries(Object.entries(query).filter(([, value]) => value !== undefined))

const makeRequest = Effect.fnUntraced(function* (url: string, operation: Operation, asked: AnyAsked) {
  const key = operation.isPublic ? {} : { "x-api-key": yield* apiKey }
  const nonce = operation.isIdempotent ? { "idempotency-key": yield* newNonce(yield* SecureRandom) } : {}
  return HttpClientRequest.make(operation.method)(`${url}${pathOf(operation.path, asked.params)}`).pipe(
    HttpClientRequest.setUrlParams(definedOnly(asked.query)),
    HttpClientRequest.setHeaders({ accept: "application/json", ...key, ...nonce, ...asked.headers }),
    HttpClientRequest.setBody(bodyOf(asked.body))
  )
})

/** Sends the request, reads the response, and repeats both as `waitBefore` decides. */
const sending = Effect.fnUntraced(function* <A>(
  id: OperationId,
  asked: AnyAsked,
  read: (url: string, response: HttpClientResponse) => Effect.Effect<A, Failure>
) {
  const http = yield* HttpClient.HttpClient
  const url = yield* serverUrl((yield* castellan).url)
  const operation = operationOf(id)
  const request = yield* makeRequest(url, operation, asked)
  const attempt = http.execute(request).pipe(
    Effect.mapError(unreachable(url)),
    Effect.flatMap((response) =>
      response.status >= 200 && response.status < 300 ? read(url, response) : refusal(url, response)
    )
  )
  const begun = yield* Clock.currentTimeMillis
  // An idempotency key makes a repeated create safe.
  const repeatable = operation.method === "GET" || operation.isIdempotent
  let wasMet = false
  for (let sent = 1; ; sent++) {
    const result = yield* Effect.result(attempt)
    if (result._tag === "Success") return result.success
    const elapsed = (yield* Clock.currentTimeMillis) - begun
    wasMet ||= meets(result.failure)
    const attempts = { repeatable, sent, elapsed, wasMet }
    const wait = request.body._tag === "Stream" ? undefined : waitBefore(result.failure, attempts)
    if (wait === undefined) return yield* Effect.fail(result.failure)
    yield* Effect.sleep(wait)
  }
})

const asJson = <A>(url: string, response: HttpClientResponse): Effect.Effect<Answer<A>, Failure> =>
  Effect.flatMap(Effect.mapError(response.text, unreachable(url)), (text) => {
    const json = text === "" && response.status === 204 ? (undefined as A) : parse<A>(text)
    return json === undefined && response.status !== 204
      ? Effect.fail(new NotCastellan({ url, status: response.status }))
      : Effect.succeed({ text, json: json as A })
  })

/** Sends a request and reads the response. With `--json`, an error response is printed as it came. */
export const ask = <Id extends OperationId, A extends ResponseOf<Id> = ResponseOf<Id>>(id: Id, asked: Asked<Id> = {}) =>
  sending<Answer<A>>(id, asked as AnyAsked, asJson).pipe(
    Effect.tapError((failure) => (failure._tag === "ApiRefused" ? Output.printForProgram(failure.body) : Effect.void))
  )

/** Sends a request whose response is streamed. `url` is the server's address, for failures of the stream. */
export const open = <Id extends OperationId>(id: Id, asked: Asked<Id> = {}) =>
  sending(id, asked as AnyAsked, (url, response) => Effect.succeed({ url, response }))

/** The failure of a stream whose connection broke. */
export const brokenOff = unreachable
