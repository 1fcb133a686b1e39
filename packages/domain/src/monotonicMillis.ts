/** Time for measuring how long something takes: it only goes forward, also where the system's clock is stepped back. */
import { Clock, Effect } from "effect"

/** Milliseconds since a moment that means nothing by itself. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(
  Clock.monotonicTimeNanos,
  (nanos) => Number(nanos) / 1e6
)
