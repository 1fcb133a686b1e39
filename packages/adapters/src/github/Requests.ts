/** Sends requests to GitHub's REST API: each once, with a timeout. Errors do not contain the credential. */
import { Clock, Duration, Effect, Redacted, Schema } from "effect"
import type { Credential } from "./Credential.ts"
import { classify, RequestFailed, type ErrorResponse } from "./RequestFailed.ts"

export interface ApiResponse {
  readonly headers: Readonly<Record<string, string | number | undefined>>
  readonly body: ReadableStream<Uint8Array>
}

export interface RequestOptions {
  readonly credential: Credential
  readonly apiUrl: string
  readonly timeout: Duration.Input
}

/** Bytes of the longest response that is read. GitHub's longest ones, trees, are below 30 MiB. */
const maxResponseSize = 64 * 1024 * 1024

/** The response is longer than `maxResponseSize`. */
class ResponseTooLong extends Error {}

const textOf = async ({ body }: ApiResponse): Promise<string> => {
  const chunks: Array<Uint8Array> = []
  let size = 0
  // Leaving the loop cancels the rest of the body.
  for await (const chunk of body) {
    size += chunk.length
    if (size > maxResponseSize) throw new ResponseTooLong(`The response has more than ${maxResponseSize} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString("utf8")
}

/** Reads a JSON response by a schema. */
export const json =
  <S extends Schema.ConstraintDecoder<unknown>>(schema: S) =>
  async (response: ApiResponse): Promise<S["Type"]> =>
    Schema.decodeUnknownSync(schema)(JSON.parse(await textOf(response)))

/** Reads a response without a body. */
export const discardBody = async ({ body }: ApiResponse): Promise<void> => {
  if (body instanceof ReadableStream) await body.cancel()
}

const silent = () => undefined
const log = { debug: silent, info: silent, warn: silent, error: silent }

/** GitHub redirected the request. Following it would act on another name than the requested one. */
class Moved extends Error {
  /** Whether a repository was renamed: GitHub redirects to its number. */
  readonly isRenamedRepository: boolean
  constructor(status: number, location: string) {
    super(`${status} to ${location}`)
    this.isRenamedRepository = /\/repositories\/\d+(?:[/?]|$)/.test(location)
  }
}

/** Takes the response and the message from a thrown error. Octokit's errors also hold the request with its headers. */
const describeThrown = (
  thrown: unknown
): { readonly response: ErrorResponse | undefined; readonly message: string } => {
  const { cause, message, response } = thrown as {
    readonly cause?: { readonly cause?: { readonly code?: unknown } }
    readonly message?: unknown
    readonly response?: ErrorResponse
  }
  const code = cause?.cause?.code
  return { response, message: [message, code].filter((one) => typeof one === "string").join(" ") }
}

/** The REST client, which is loaded when the adapter is used. */
export type Sdk = Pick<typeof import("@octokit/rest"), "Octokit">

export const make = ({ Octokit }: Sdk, { apiUrl, credential, timeout }: RequestOptions) => {
  const octokit = new Octokit({
    auth: Redacted.value(credential.token),
    baseUrl: apiUrl,
    userAgent: "castellan",
    log,
    // Octokit would decode bytes as text, and read a truncated body as an empty one.
    request: { log, parseSuccessResponseBody: false, redirect: "manual" }
  })
  const failureOf = (route: string, thrown: unknown, now: number): RequestFailed => {
    const { message, response } = describeThrown(thrown)
    const cause = (what: string) => new Error(credential.scrub(`${route}: ${what}`))
    if (response !== undefined) {
      const id = response.headers["x-github-request-id"] ?? "none"
      return new RequestFailed({
        ...classify(response, now),
        cause: cause(`${response.status} ${message} (request ${id})`)
      })
    }
    const none = { codes: [], retryAfterMs: null }
    if (thrown instanceof Moved) {
      const status = thrown.isRenamedRepository ? 404 : null
      return new RequestFailed({ ...none, status, retryable: false, cause: cause(message) })
    }
    // A response of another shape would come again. Everything else is a connection error.
    const isInvalid = Schema.isSchemaError(thrown) || thrown instanceof ResponseTooLong
    return new RequestFailed({ ...none, status: null, retryable: !isInvalid, cause: cause(message) })
  }

  /** Sends a request once and reads the response. Interruption aborts it. */
  return <A>(
    route: string,
    parameters: Record<string, unknown>,
    read: (response: ApiResponse) => Promise<A>
  ): Effect.Effect<A, RequestFailed> =>
    Effect.tryPromise({
      try: async (signal) => {
        const { data, headers, status } = await octokit.request(route, { ...parameters, request: { signal } })
        const response = { headers, body: data as ReadableStream<Uint8Array> }
        if (status < 300) return read(response)
        await discardBody(response)
        throw new Moved(status, String(headers.location))
      },
      catch: (thrown) => thrown
    }).pipe(
      Effect.catch((thrown) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.fail(failureOf(route, thrown, now)))
      ),
      Effect.timeoutOrElse({
        duration: timeout,
        orElse: () =>
          Effect.fail(
            new RequestFailed({
              status: null,
              codes: [],
              retryable: true,
              retryAfterMs: null,
              cause: new Error(`${route}: no response within ${Duration.format(Duration.fromInputUnsafe(timeout))}`)
            })
          )
      })
    )
}

export type SendRequest = ReturnType<typeof make>
