/** Retry policies: exponential backoff with a bound, for delays that are stored and for retries in this process. */
import { Duration, Effect, Schedule } from "effect"

export interface RetryPolicy {
  /** The delay after the first failure; each further one doubles it. */
  readonly initial: Duration.Duration
  /** The longest delay. */
  readonly longest: Duration.Duration
}

/** The delay after the n-th failure in a row, counted from 1. It has no jitter, so a stored time can be explained. */
export const retryDelay = ({ initial, longest }: RetryPolicy, failures: number): Duration.Duration =>
  Duration.min(longest, Duration.times(initial, 2 ** Math.max(0, Math.min(failures, 32) - 1)))

/** Retries in this process without end. The delays have a jitter of a fifth, so that servers do not retry in step. */
export const retrySchedule = ({ initial, longest }: RetryPolicy): Schedule.Schedule<Duration.Duration> =>
  Schedule.exponential(initial).pipe(
    Schedule.modifyDelay(({ duration }) => Effect.succeed(Duration.min(longest, duration))),
    Schedule.jittered
  )
