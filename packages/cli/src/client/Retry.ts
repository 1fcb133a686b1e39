/** Decides whether and when a failed request is repeated. */
import type { ApiRefused, Failure } from "./Failure.ts"

export interface Attempts {
  /** Whether repeating the request is safe: it reads, or has an idempotency key. */
  readonly repeatable: boolean
  /** How often it was sent. */
  readonly sent: number
  /** Milliseconds since it was first sent. */
  readonly elapsed: number
  /** Whether a server has answered or accepted a connection, so that it may come back. */
  readonly wasMet: boolean
}

/** Waits before the next attempts if no server was reached, in milliseconds. */
const afterSilence = [250, 1000]

/** Waits if a server was reached before: it may be restarting, which takes some seconds. */
const afterBreak = [...afterSilence, 2000, 4000, 8000]

/** The longest `retryAfterMs` of a server that is respected, in milliseconds. */
const longestWait = 30_000

/** Maximum attempts after a 429. */
const timesLater = 3

/**
 * How long a request may take in all, in milliseconds. Its connection may break long before, because Node's fetch aborts
 * after 300 s without a response, and cloning a large repository or creating a server's first app takes minutes.
 */
const inFlight = 15 * 60_000

const afterRefusal = (refused: ApiRefused, { elapsed, repeatable, sent }: Attempts): number | undefined => {
  const wait = refused.retryAfter
  if (wait === undefined || wait > longestWait) return undefined
  if (refused.status === 429) return sent <= timesLater ? wait : undefined
  // No one else has the key, so the request in flight is an earlier attempt of ours, whose response is wanted.
  if (refused.code === "idempotency_in_flight" && repeatable) return elapsed < inFlight ? wait : undefined
  return undefined
}

/** Whether the failure shows that a server was reached. */
export const meets = (failure: Failure): boolean =>
  failure._tag !== "Unreachable" || !["ECONNREFUSED", "ENOTFOUND"].includes(failure.why)

/** Milliseconds to wait before the request is repeated; undefined if it is not. */
export const waitBefore = (failure: Failure, attempts: Attempts): number | undefined => {
  if (failure._tag === "ApiRefused") return afterRefusal(failure, attempts)
  if (failure._tag !== "Unreachable" || !attempts.repeatable) return undefined
  return (attempts.wasMet ? afterBreak : afterSilence)[attempts.sent - 1]
}
