/** The responses and errors of Vercel's API. */
import { Data, type Effect } from "effect"

/** An error of the API: `{error: {code, message}}`. */
export class ApiError extends Data.TaggedError("ApiError")<{
  readonly status: number
  readonly code: string
  readonly message: string
}> {}

/** The request is invalid. */
export const badRequest = (message: string) => new ApiError({ status: 400, code: "bad_request", message })

/** The resource does not exist, or belongs to another team. */
export const notFound = (what: string) =>
  new ApiError({ status: 404, code: "not_found", message: `${what} not found.` })

/** The snapshot to boot from does not exist. */
export const snapshotNotFound = new ApiError({
  status: 410,
  code: "snapshot_not_found",
  message: "Cannot resume sandbox: no snapshot available."
})

/** The error for a session in this state. */
export const refusalOf = (status: "stopping" | "snapshotting" | "stopped") =>
  new ApiError({
    status: status === "stopped" ? 410 : 422,
    code: `sandbox_${status}`,
    message: `Sandbox is ${status} and is not accepting commands.`
  })

/** Writes the body of a response as it is produced. */
export interface ResponseWriter {
  /** Sends the head at once. */
  readonly begin: (type: string, headers?: Record<string, string>) => void
  /** Whether the head was sent. */
  readonly hasBegun: () => boolean
  /** Sends bytes, with backpressure. */
  readonly write: (bytes: Uint8Array) => Effect.Effect<void>
  /** Closes the connection without ending the body. */
  readonly breakOff: () => void
}

/** A response whose body is JSON. */
export interface JsonResponse {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: unknown
}

/** A streamed response, which can fail until its head is sent. */
export interface StreamedResponse {
  readonly stream: (writer: ResponseWriter) => Effect.Effect<JsonResponse | void, ApiError>
}

/** A response with this body. */
export const json = (body: unknown, status = 200, headers: Record<string, string> = {}): JsonResponse => ({
  status,
  headers,
  body
})

/** The response of an error. */
export const refusal = ({ code, message, status }: ApiError, headers: Record<string, string> = {}): JsonResponse =>
  json({ error: { code, message } }, status, headers)

/** JSON in pure ASCII, since clients decode each chunk of a stream by itself. */
export const ascii = (value: unknown): string =>
  JSON.stringify(value).replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`
  )
