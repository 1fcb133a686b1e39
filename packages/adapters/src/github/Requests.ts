/** Requests to GitHub's REST API: one try each, with a deadline, and nothing of the credential in what they fail with. */
import { Octokit } from "@octokit/rest"
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

/** Bytes of an answer that are read. GitHub's largest ones, trees, are below 30 MiB. */
const mostAnswered = 64 * 1024 * 1024

/** The answer is longer than any that is known. */
class TooLong extends Error {}

const textOf = async ({ body }: ApiResponse): Promise<string> => {
  const chunks: Array<Uint8Array> = []
  let size = 0
  // What is left of a body is cancelled when the loop is left.
  for await (const chunk of body) {
    size += chunk.length
    if (size > mostAnswered) throw new TooLong(`The answer has more than ${mostAnswered} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString("utf8")
}

/** Reads JSON of a shape. */
export const json =
  <S extends Schema.ConstraintDecoder<unknown>>(schema: S) =>
  async (answer: ApiResponse): Promise<S["Type"]> =>
    Schema.decodeUnknownSync(schema)(JSON.parse(await textOf(answer)))

export const discardBody = async ({ body }: ApiResponse): Promise<void> => {
  if (body instanceof ReadableStream) await body.cancel()
}

const silent = () => undefined
const log = { debug: silent, info: silent, warn: silent, error: silent }

/** It is to be asked for elsewhere. To follow would be to act on another name than was asked for. */
class Moved extends Error {
  /** Whether it is a repository that was given another name: GitHub sends on to its number. */
  readonly isRepository: boolean
  constructor(status: number, location: string) {
    super(`${status} to ${location}`)
    this.isRepository = /\/repositories\/\d+(?:[/?]|$)/.test(location)
  }
}

/** The facts of what a request threw. The objects that Octokit throws carry the request with its headers. */
const factsOf = (thrown: unknown): { readonly refused: ErrorResponse | undefined; readonly message: string } => {
  const { cause, message, response } = thrown as {
    readonly cause?: { readonly cause?: { readonly code?: unknown } }
    readonly message?: unknown
    readonly response?: ErrorResponse
  }
  const code = cause?.cause?.code
  return { refused: response, message: [message, code].filter((one) => typeof one === "string").join(" ") }
}

export const make = ({ apiUrl, credential, timeout }: RequestOptions) => {
  const octokit = new Octokit({
    auth: Redacted.value(credential.token),
    baseUrl: apiUrl,
    userAgent: "castellan",
    log,
    // Octokit would read bytes as text, and a body that was cut off as an empty one.
    request: { log, parseSuccessResponseBody: false, redirect: "manual" }
  })
  const refusalOf = (route: string, thrown: unknown, now: number): RequestFailed => {
    const { message, refused } = factsOf(thrown)
    const cause = (what: string) => new Error(credential.scrub(`${route}: ${what}`))
    if (refused !== undefined) {
      const id = refused.headers["x-github-request-id"] ?? "none"
      return new RequestFailed({
        ...classify(refused, now),
        cause: cause(`${refused.status} ${message} (request ${id})`)
      })
    }
    const none = { codes: [], retryAfterMs: null }
    if (thrown instanceof Moved) {
      const status = thrown.isRepository ? 404 : null
      return new RequestFailed({ ...none, status, retryable: false, cause: cause(message) })
    }
    // An answer of another shape comes again; all else is the connection's.
    const isShape = Schema.isSchemaError(thrown) || thrown instanceof TooLong
    return new RequestFailed({ ...none, status: null, retryable: !isShape, cause: cause(message) })
  }

  /** Asks once and reads the answer. An interruption ends the request. */
  return <A>(
    route: string,
    parameters: Record<string, unknown>,
    read: (answer: ApiResponse) => Promise<A>
  ): Effect.Effect<A, RequestFailed> =>
    Effect.tryPromise({
      try: async (signal) => {
        const { data, headers, status } = await octokit.request(route, { ...parameters, request: { signal } })
        const answer = { headers, body: data as ReadableStream<Uint8Array> }
        if (status < 300) return read(answer)
        await discardBody(answer)
        throw new Moved(status, String(headers.location))
      },
      catch: (thrown) => thrown
    }).pipe(
      Effect.catch((thrown) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => Effect.fail(refusalOf(route, thrown, now)))
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
              cause: new Error(`${route}: no answer in ${Duration.format(Duration.fromInputUnsafe(timeout))}`)
            })
          )
      })
    )
}

export type SendRequest = ReturnType<typeof make>
