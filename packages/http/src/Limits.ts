/** How often an account may ask. Each server counts for itself: with N of them behind one address the limit is up to N times as high. */
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Clock, Context, Duration, Effect, Layer } from "effect"
import { RateLimiter } from "effect/persistence"
import { RateLimited } from "./api/Statuses.ts"

export interface LimitOptions {
  /** Requests of an account in a minute. */
  readonly requests: number
  /** Sandboxes, sessions, setups and snapshots of an account that are begun in a minute, and sessions that are opened. */
  readonly creates: number
}

/** Far above what a person or an agent does, and below what makes a server slow for others. */
export const defaultLimits: LimitOptions = { requests: 6000, creates: 600 }

const window = Duration.minutes(1)

/** Counts by elapsed time: the buckets must keep filling after the system's clock is stepped back. */
const steady = (clock: Clock.Clock): Clock.Clock => ({
  currentTimeMillisUnsafe: () => Number(clock.monotonicTimeNanosUnsafe()) / 1e6,
  currentTimeMillis: Effect.map(clock.monotonicTimeNanos, (nanos) => Number(nanos) / 1e6),
  currentTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
  currentTimeNanos: clock.monotonicTimeNanos,
  monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: clock.monotonicTimeNanos,
  sleep: (duration) => clock.sleep(duration)
})

export class Limits extends Context.Service<
  Limits,
  {
    /** Counts a request of the account that asks. */
    readonly request: (account: AccountId) => Effect.Effect<void, RateLimited>
    /** Counts what is made for an account. */
    readonly create: (scope: AccountScope) => Effect.Effect<void, RateLimited>
  }
>()("http/Limits") {
  static readonly layer = (options: LimitOptions) =>
    Layer.effect(
      Limits,
      Effect.gen(function* () {
        const limiter = yield* RateLimiter.make
        const consume = (what: string, limit: number, account: AccountId) =>
          limiter.consume({ algorithm: "token-bucket", window, limit, key: `${what}:${account}` }).pipe(
            Effect.catch((failure) =>
              failure.reason._tag === "RateLimitExceeded"
                ? new RateLimited({ retryAfterMs: Math.ceil(Duration.toMillis(failure.reason.retryAfter)) })
                : Effect.die(failure)
            ),
            Effect.updateService(Clock.Clock, steady),
            Effect.asVoid
          )
        return Limits.of({
          request: (account) => consume("requests", options.requests, account),
          create: ({ account }) => consume("creates", options.creates, account)
        })
      })
    ).pipe(Layer.provide(RateLimiter.layerStoreMemory))
}
