/** What goes wrong between a client and GitHub, on demand. */
import { type Answer, json } from "./Answers.ts"

export type Fault =
  /** The hour's requests are used up. */
  | { readonly kind: "rateLimited"; readonly status: 403 | 429; readonly resetInSeconds: number }
  /** Too much at once; without a number of seconds the answer names none, as happens. */
  | { readonly kind: "secondaryRateLimited"; readonly retryAfterSeconds: number | null }
  | { readonly kind: "status"; readonly status: number; readonly message?: string }
  /** A server in front sends on to another place. */
  | { readonly kind: "redirected"; readonly to: string }
  /** The connection goes before anything is done. */
  | { readonly kind: "droppedBefore" }
  /** All is done, and the connection goes instead of an answer. */
  | { readonly kind: "droppedAfter" }
  /** The connection goes in the middle of the answer's body. */
  | { readonly kind: "cutOff" }
  | { readonly kind: "slow"; readonly ms: number }

/** What a fault answers instead of GitHub; undefined where it is no answer that is wrong. */
export const answerOf = (fault: Fault): Answer | undefined => {
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
