/** A clock for measuring durations: it never goes backward, even if the system clock does. */
import { Clock, Effect } from "effect"

/** Milliseconds since an arbitrary moment. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(
  Clock.monotonicTimeNanos,
  (nanos) => Number(nanos) / 1e6
)
