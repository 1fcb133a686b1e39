/** What Vercel answers, and how it says no. */
import { Data, type Effect } from "effect"

/** A refusal as Vercel words it: `{error: {code, message}}`. */
export class Refused extends Data.TaggedError("Refused")<{
  readonly status: number
  readonly code: string
  readonly message: string
}> {}

/** What is asked can't be. */
export const badRequest = (message: string) => new Refused({ status: 400, code: "bad_request", message })

/** There is no such thing, or none of this team. */
export const notFound = (what: string) => new Refused({ status: 404, code: "not_found", message: `${what} not found.` })

/** What is to be booted from is gone. */
export const snapshotNotFound = new Refused({
  status: 410,
  code: "snapshot_not_found",
  message: "Cannot resume sandbox: no snapshot available."
})

/** Why nothing can be done with a session that is in that state. */
export const refusalOf = (status: "stopping" | "snapshotting" | "stopped") =>
  new Refused({
    status: status === "stopped" ? 410 : 422,
    code: `sandbox_${status}`,
    message: `Sandbox is ${status} and is not accepting commands.`
  })

/** Where a body is sent to as it comes. */
export interface Sink {
  /** Sends the head at once. */
  readonly begin: (type: string, headers?: Record<string, string>) => void
  /** Whether the head was sent. */
  readonly hasBegun: () => boolean
  /** Sends bytes, no faster than they are taken. */
  readonly write: (bytes: Uint8Array) => Effect.Effect<void>
  /** Breaks the connection off in place of an end. */
  readonly breakOff: () => void
}

/** An answer whose body is JSON. */
export interface Answer {
  readonly status: number
  readonly headers: Record<string, string>
  readonly body: unknown
}

/** A body of its own kind; until it begins, it may still be refused. */
export interface Streamed {
  readonly stream: (sink: Sink) => Effect.Effect<Answer | void, Refused>
}

/** An answer with that body. */
export const json = (body: unknown, status = 200, headers: Record<string, string> = {}): Answer => ({
  status,
  headers,
  body
})

/** A refusal as an answer. */
export const refusal = ({ code, message, status }: Refused, headers: Record<string, string> = {}): Answer =>
  json({ error: { code, message } }, status, headers)

/** JSON in ASCII alone: clients decode each piece of a stream by itself. */
export const ascii = (value: unknown): string =>
  JSON.stringify(value).replaceAll(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`
  )
