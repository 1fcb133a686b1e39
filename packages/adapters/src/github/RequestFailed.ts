/** A failed request to GitHub, classified by its status, headers and error codes. */
import { RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { Data } from "effect"

/** GitHub refused a request, or did not answer it. */
export class RequestFailed extends Data.TaggedError("RequestFailed")<{
  /** The HTTP status; null where there was no usable response. */
  readonly status: number | null
  /** The errors of the response as `FIELD CODE`, for example `name custom`. */
  readonly codes: ReadonlyArray<string>
  readonly retryable: boolean
  readonly retryAfterMs: number | null
  /** For the log. It does not contain the credential. */
  readonly cause: Error
}> {
  /** There is no such repository under that name, or the token may not see it. */
  get isAbsent(): boolean {
    return this.status === 404
  }
}

/** The failure as the port reports it. */
export const unavailable = (operation: string) => (failure: RequestFailed) =>
  new RepoUnavailable({
    operation,
    retryable: failure.retryable,
    retryAfterMs: failure.retryAfterMs,
    cause: failure.cause
  })

/** A response with an error status. */
export interface ErrorResponse {
  readonly status: number
  readonly headers: Readonly<Record<string, string | number | undefined>>
  readonly data: unknown
}

const recordOf = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {}

const numberOf = (value: string | number | undefined): number | undefined =>
  value !== undefined && /^\d+$/.test(String(value)) ? Number(value) : undefined

/** The documentation URL of the secondary rate limit: without headers, only this distinguishes it from another 403. */
const secondaryRateLimit = /#(?:about-)?secondary-rate-limits$/

/** Classifies an error response. `now` is in epoch milliseconds. */
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
    status === 429 || (status === 403 && (wait !== null || secondaryRateLimit.test(String(documentation_url ?? ""))))
  const retryable = isLimited || status >= 500 || status === 408 || status === 409
  return { status, codes, retryable, retryAfterMs: retryable ? wait : null }
}
