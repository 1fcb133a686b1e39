/** Whether a request is sent again, and when. */
import type { ApiRefused, Failure } from "./Failure.ts"

export interface Attempts {
  /** Asking twice is the same as asking once: it reads, or bears an idempotency key. */
  readonly repeatable: boolean
  /** How often it was sent so far. */
  readonly sent: number
  /** Milliseconds since it was first sent. */
  readonly elapsed: number
}

/** Waits before the second and the third attempt over a broken connection, in milliseconds. */
const afterBreak = [250, 1000]

/** Longest wait that a server can ask of us, in milliseconds. */
const longestWait = 30_000

/** How often a server that says "later" is asked again. */
const timesLater = 3

/** How long the first attempt of a request may go on after its connection broke, in milliseconds. */
const inFlight = 120_000

const afterRefusal = (refused: ApiRefused, { elapsed, repeatable, sent }: Attempts): number | undefined => {
  const wait = refused.retryAfter
  if (wait === undefined || wait > longestWait) return undefined
  if (refused.status === 429) return sent <= timesLater ? wait : undefined
  // The key is ours alone: what is in flight is our own first attempt, and its answer is the one we want.
  if (refused.code === "idempotency_in_flight" && repeatable) return elapsed < inFlight ? wait : undefined
  return undefined
}

/** Milliseconds to wait before the request is sent again; undefined if it is not. */
export const waitBefore = (failure: Failure, attempts: Attempts): number | undefined => {
  if (failure._tag === "ApiRefused") return afterRefusal(failure, attempts)
  return failure._tag === "Unreachable" && attempts.repeatable ? afterBreak[attempts.sent - 1] : undefined
}
