/** Why GitHub did not give what it was asked for, read from facts: the status, the headers, the codes of its errors. */
import { RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { Data } from "effect"

/** What GitHub answered instead, or that it could not be asked. */
export class RequestFailed extends Data.TaggedError("Refusal")<{
  /** Null where there was no answer to take. */
  readonly status: number | null
  /** What it says is wrong with which field, as `name custom`. */
  readonly codes: ReadonlyArray<string>
  readonly retryable: boolean
  readonly retryAfterMs: number | null
  /** For the log; it has nothing of the credential. */
  readonly cause: Error
}> {
  /** Nothing goes by the name: it is gone, never was, is not shown, or is called otherwise by now. */
  get isAbsent(): boolean {
    return this.status === 404
  }
}

export const unavailable = (operation: string) => (refusal: RequestFailed) =>
  new RepoUnavailable({
    operation,
    retryable: refusal.retryable,
    retryAfterMs: refusal.retryAfterMs,
    cause: refusal.cause
  })

/** What is read of an answer that was refused. */
export interface ErrorResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string | number | undefined>>
  readonly data: unknown
}

const recordOf = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {}

const numberOf = (value: string | number | undefined): number | undefined =>
  value !== undefined && /^\d+$/.test(String(value)) ? Number(value) : undefined

/** Where GitHub explains the limit on what is done at once: all that tells it from another 403, where no header does. */
const secondary = /#(?:about-)?secondary-rate-limits$/

/** How an answer of 400 and above is to be taken at a time, in milliseconds. */
export const classify = (
  { data, headers, status }: ErrorResponse,
  now: number
): Pick<RequestFailed, "codes" | "retryable" | "retryAfterMs" | "status"> => {
  const { documentation_url, errors } = recordOf(data)
  const codes = (Array.isArray(errors) ? errors : []).map((one) => {
    const { code, field } = recordOf(one)
    return `${field} ${code}`
  })
  const after = numberOf(headers["retry-after"])
  const reset = headers["x-ratelimit-remaining"] === "0" ? numberOf(headers["x-ratelimit-reset"]) : undefined
  const wait = after !== undefined ? after * 1000 : reset !== undefined ? Math.max(0, reset * 1000 - now) : null
  const isLimited =
    status === 429 || (status === 403 && (wait !== null || secondary.test(String(documentation_url ?? ""))))
  const retryable = isLimited || status >= 500 || status === 408 || status === 409
  return { status, codes, retryable, retryAfterMs: retryable ? wait : null }
}
