/** Why Vercel did not give what it was asked for, read from facts: the status, and the code in the answer. */
import { SandboxFault, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Schema } from "effect"

const snapshotGone = "snapshot_not_found"
const stopping: ReadonlyArray<string> = ["sandbox_stopping", "sandbox_snapshotting"]

/** A request that was refused, or that got no answer. */
export class RequestFailed extends Schema.TaggedError<RequestFailed>()("Refusal", {
  /** Of the answer; null where there was none. */
  status: Schema.NullOr(Schema.Int),
  code: Schema.NullOr(Schema.String),
  /** Whether asking again may help. */
  retryable: Schema.Boolean,
  /** What the sandbox did wrong, where Vercel did nothing wrong. */
  fault: Schema.optionalKey(SandboxFault),
  cause: Schema.Unknown
}) {
  /** Nothing is there under that name or id. */
  get isAbsent(): boolean {
    return this.status === 404
  }

  /** Nothing is there under that name or id any more, whatever code says so. */
  get isGone(): boolean {
    return this.status === 404 || this.status === 410
  }

  /** The snapshot that a sandbox was to be resumed from is gone. */
  get isSnapshotGone(): boolean {
    return this.status === 410 && this.code === snapshotGone
  }

  /** The session that was asked is over, or on its way there. */
  get isOver(): boolean {
    if (this.status === 410 || this.isStopping) return true
    return this.status === null && this.code === "sandbox_stream_closed"
  }

  /** It is being stopped or snapshotted just now. */
  get isStopping(): boolean {
    return this.status === 422 && stopping.includes(this.code ?? "")
  }
}

const recordOf = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {}

const textOf = (value: unknown): string | null => (typeof value === "string" ? value : null)

/** Whether asking again may help: also where a session is over, since the next one may be asked. */
const mayPass = (status: number, code: string | null) => {
  if (status === 422) return stopping.includes(code ?? "")
  if (status === 410) return code !== snapshotGone
  return status === 429 || status >= 500 || status === 408 || status === 409
}

/** What the SDK threw. Its errors carry the request with its headers, so only words are kept, without the token. */
export const toRequestFailed = (operation: string, thrown: unknown, token: string): RequestFailed => {
  const { cause, code, json, message, name, response } = recordOf(thrown)
  const scrub = (text: string) => (token === "" ? text : text.replaceAll(token, "[token]"))
  const below = textOf(recordOf(cause).code)
  const status = recordOf(response).status
  const said = [textOf(name), textOf(message), below].filter((one) => one !== null).join(" ")
  const because = (what: string) => new Error(scrub(`${operation}: ${what}`))
  if (typeof status === "number") {
    const refusedCode = textOf(recordOf(recordOf(json).error).code)
    return new RequestFailed({
      status,
      code: refusedCode,
      retryable: mayPass(status, refusedCode),
      cause: because(`${status} ${said}`)
    })
  }
  return new RequestFailed({ status: null, code: textOf(code) ?? below, retryable: true, cause: because(said) })
}

/** A program inside the sandbox did not answer, or not as it should have. */
export const scriptFault = (operation: string, fault: SandboxFault, why: string): RequestFailed =>
  new RequestFailed({
    status: null,
    code: null,
    retryable: fault === "no_answer",
    fault,
    cause: new Error(`${operation}: ${why}`)
  })

/** What the port says of it. */
export const unavailable =
  (operation: string) =>
  ({ cause, fault, retryable }: RequestFailed): SandboxUnavailable =>
    new SandboxUnavailable({ operation, retryable, cause, ...(fault !== undefined && { fault }) })
