/** Leases: one worker holds a row until a time, and renews it while it works. */
import { DateTime, Duration, Effect } from "effect"

/** When a lease that is taken now expires. */
export const newExpiry = (lease: Duration.Duration): Effect.Effect<DateTime.Utc> =>
  Effect.map(DateTime.now, (now) => DateTime.addDuration(now, lease))

/** Whether the lease has expired or was never taken, so that it may be taken over. */
export const isExpired = (expiresAt: DateTime.Utc | null, now: DateTime.Utc): boolean =>
  expiresAt === null || DateTime.isLessThanOrEqualTo(expiresAt, now)

/** How often a holder renews its lease: two renewals in a row may fail before it expires. */
export const renewalInterval = (lease: Duration.Duration): Duration.Duration => Duration.divideUnsafe(lease, 3)

/**
 * Runs `work` and renews the lease until it ends. Once `renew` returns false the lease is lost, and `lost` decides: if
 * it fails, the work is interrupted with that failure. Uninterruptible work is completed first.
 */
export const whileRenewing = <A, E, R, E2, R2, E3, R3>(
  work: Effect.Effect<A, E, R>,
  options: {
    readonly lease: Duration.Duration
    readonly renew: Effect.Effect<boolean, E2, R2>
    readonly lost: Effect.Effect<never, E3, R3>
  }
): Effect.Effect<A, E | E2 | E3, R | R2 | R3> => {
  const heartbeat = Effect.gen(function* () {
    do yield* Effect.sleep(renewalInterval(options.lease))
    while (yield* options.renew)
    return yield* options.lost
  })
  return Effect.raceFirst(work, Effect.interruptible(heartbeat))
}
