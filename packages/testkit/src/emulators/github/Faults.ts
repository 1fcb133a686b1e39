/** The faults of GitHub that a test can plan. */
import { type Response, json } from "./responses.ts"

export type Fault =
  /** The rate limit of the hour is used up. */
  | { readonly kind: "rateLimited"; readonly status: 403 | 429; readonly resetInSeconds: number }
  /** The secondary rate limit; the response has no `retry-after` if `retryAfterSeconds` is null. */
  | { readonly kind: "secondaryRateLimited"; readonly retryAfterSeconds: number | null }
  | { readonly kind: "status"; readonly status: number; readonly message?: string }
  /** A proxy redirects to another URL. */
  | { readonly kind: "redirected"; readonly to: string }
  /** The connection closes before the request is handled. */
  | { readonly kind: "droppedBefore" }
  /** The request is handled, and the connection closes before the response. */
  | { readonly kind: "droppedAfter" }
  /** The connection closes in the middle of the response body. */
  | { readonly kind: "cutOff" }
  | { readonly kind: "slow"; readonly ms: number }

/** The response of a fault that replaces GitHub's; undefined for other faults. */
export const responseOf = (fault: Fault): Response | undefined => {
  const limits = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
  switch (fault.kind) {
    case "rateLimited":
      return json(
        fault.status,
        { message: "API rate limit exceeded for user ID 1001.", documentation_url: limits, status: `${fault.status}` },
        {
          "x-ratelimit-remaining": "0",
          "x-ratelimit-reset": String(Math.ceil(Date.now() / 1000) + fault.resetInSeconds)
        }
      )
    case "secondaryRateLimited":
      return json(
        403,
        {
          message: "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
          documentation_url: `${limits}#about-secondary-rate-limits`,
          status: "403"
        },
        fault.retryAfterSeconds === null ? {} : { "retry-after": String(fault.retryAfterSeconds) }
      )
    case "redirected":
      return json(301, { message: "Moved Permanently" }, { location: fault.to })
    case "status":
      return json(fault.status, { message: fault.message ?? "Server Error", status: String(fault.status) })
    default:
      return undefined
  }
}
