/** Claims due rows in memory: the longest due first, each with a new lease. */
import type { DateTime } from "effect"

/** The rows whose next check is not after `now`, at most `limit`. `renewed` sets their lease. */
export const claimDueRows = <A>(
  rows: Iterable<A>,
  dueAt: (row: A) => DateTime.Utc | null,
  now: DateTime.Utc,
  limit: number,
  renewed: (row: A) => A
): ReadonlyArray<A> => {
  const millis = (row: A) => dueAt(row)?.epochMilliseconds ?? Infinity
  return [...rows]
    .filter((row) => millis(row) <= now.epochMilliseconds)
    .sort((a, b) => millis(a) - millis(b))
    .slice(0, limit)
    .map(renewed)
}
