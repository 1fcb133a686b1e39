/** Whether a request is sent again, and when. */
import type { ApiRefused, Failure } from "./Failure.ts"

export interface Attempts {
  /** Asking twice is the same as asking once: it reads, or bears an idempotency key. */
  readonly repeatable: boolean
  /** How often it was sent so far. */
  readonly sent: number
  /** Milliseconds since it was first sent. */
  readonly elapsed: number
  /** Whether a server was there, so that it may come back: not where the first connection could not be made. */
  readonly wasMet: boolean
}

/** Waits before the next attempts where nobody answers, in milliseconds. */
const afterSilence = [250, 1000]

/** The same where a server was there: it may be starting again, which takes it some seconds. */
const afterBreak = [...afterSilence, 2000, 4000, 8000]

/** Longest wait that a server can ask of us, in milliseconds. */
const longestWait = 30_000

/** How often a server that says "later" is asked again. */
const timesLater = 3

/**
 * How long the first attempt of a request may take in all, in milliseconds. Its connection may break long before: Node gives
 * up an answer after 300 s of silence, and to clone a large repository or to make the first app of a server takes minutes.
 */
const inFlight = 15 * 60_000

const afterRefusal = (refused: ApiRefused, { elapsed, repeatable, sent }: Attempts): number | undefined => {
  const wait = refused.retryAfter
  if (wait === undefined || wait > longestWait) return undefined
  if (refused.status === 429) return sent <= timesLater ? wait : undefined
  // The key is ours alone: what is in flight is our own first attempt, and its answer is the one we want.
  if (refused.code === "idempotency_in_flight" && repeatable) return elapsed < inFlight ? wait : undefined
  return undefined
}

/** Whether the failure shows that a server was there. */
export const meets = (failure: Failure): boolean =>
  failure._tag !== "Unreachable" || !["ECONNREFUSED", "ENOTFOUND"].includes(failure.why)

/** Milliseconds to wait before the request is sent again; undefined if it is not. */
export const waitBefore = (failure: Failure, attempts: Attempts): number | undefined => {
  if (failure._tag === "ApiRefused") return afterRefusal(failure, attempts)
  if (failure._tag !== "Unreachable" || !attempts.repeatable) return undefined
  return (attempts.wasMet ? afterBreak : afterSilence)[attempts.sent - 1]
}
