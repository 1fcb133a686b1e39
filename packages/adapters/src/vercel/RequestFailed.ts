/** A failed request to Vercel, classified by its status and error code. */
import { SandboxFault, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Schema } from "effect"

const snapshotGone = "snapshot_not_found"
const stopping: ReadonlyArray<string> = ["sandbox_stopping", "sandbox_snapshotting"]

/** Vercel refused a request, or did not answer it. */
export class RequestFailed extends Schema.TaggedError<RequestFailed>()("RequestFailed", {
  /** The HTTP status; null where there was no response. */
  status: Schema.NullOr(Schema.Int),
  code: Schema.NullOr(Schema.String),
  retryable: Schema.Boolean,
  /** The fault of a program in the sandbox, if the request itself succeeded. */
  fault: Schema.optionalKey(SandboxFault),
  cause: Schema.Unknown
}) {
  /** Nothing has this name or id. */
  get isAbsent(): boolean {
    return this.status === 404
  }

  /** Nothing has this name or id any more, or ever had it. */
  get isGone(): boolean {
    return this.status === 404 || this.status === 410
  }

  /** The snapshot that a sandbox would be resumed from is gone. */
  get isSnapshotGone(): boolean {
    return this.status === 410 && this.code === snapshotGone
  }

  /** The session is over or ending. */
  get isOver(): boolean {
    if (this.status === 410 || this.isStopping) return true
    return this.status === null && this.code === "sandbox_stream_closed"
  }

  /** The sandbox is being stopped or snapshotted. */
  get isStopping(): boolean {
    return this.status === 422 && stopping.includes(this.code ?? "")
  }
}

const recordOf = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {}

const textOf = (value: unknown): string | null => (typeof value === "string" ? value : null)

/** Whether a retry may succeed. It may after the end of a session, since the next session can answer. */
const isRetryable = (status: number, code: string | null) => {
  if (status === 422) return stopping.includes(code ?? "")
  if (status === 410) return code !== snapshotGone
  return status === 429 || status >= 500 || status === 408 || status === 409
}

/**
 * Translates what the SDK threw. Its errors hold the request with its headers, so the cause keeps only their text, without
 * the token.
 */
export const toRequestFailed = (operation: string, thrown: unknown, token: string): RequestFailed => {
  const { cause, code, json, message, name, response } = recordOf(thrown)
  const scrub = (text: string) => (token === "" ? text : text.replaceAll(token, "[token]"))
  const causeCode = textOf(recordOf(cause).code)
  const status = recordOf(response).status
  const description = [textOf(name), textOf(message), causeCode].filter((one) => one !== null).join(" ")
  const errorOf = (what: string) => new Error(scrub(`${operation}: ${what}`))
  if (typeof status === "number") {
    const errorCode = textOf(recordOf(recordOf(json).error).code)
    return new RequestFailed({
      status,
      code: errorCode,
      retryable: isRetryable(status, errorCode),
      cause: errorOf(`${status} ${description}`)
    })
  }
  return new RequestFailed({
    status: null,
    code: textOf(code) ?? causeCode,
    retryable: true,
    cause: errorOf(description)
  })
}

/** A program in the sandbox gave no answer, or a malformed one. */
export const scriptFault = (operation: string, fault: SandboxFault, why: string): RequestFailed =>
  new RequestFailed({
    status: null,
    code: null,
    retryable: fault === "no_answer",
    fault,
    cause: new Error(`${operation}: ${why}`)
  })

/** The failure as the port reports it. */
export const unavailable =
  (operation: string) =>
  ({ cause, fault, retryable }: RequestFailed): SandboxUnavailable =>
    new SandboxUnavailable({ operation, retryable, cause, ...(fault !== undefined && { fault }) })
