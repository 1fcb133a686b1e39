/** How often an account may ask, and what it may have open. Each server counts for itself: with N of them behind one address the limit is up to N times as high. */
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { Clock, Context, Duration, Effect, Layer, type Scope } from "effect"
import { RateLimiter } from "effect/persistence"
import { RateLimited, TooManyStreams } from "../api/Statuses.ts"

export interface LimitOptions {
  /** Requests of an account in a minute. */
  readonly requests: number
  /** Sandboxes, sessions, setups and snapshots of an account that are begun in a minute, and sessions that are opened. */
  readonly creates: number
  /** Streams, waits and file transfers of an account that are open at the same time. */
  readonly streams: number
  /** How long a request waits for a run before it is answered with the run's id. */
  readonly wait: Duration.Duration
}

/** Far above what a person or an agent does, and below what makes a server slow for others. */
export const defaultLimits: LimitOptions = {
  requests: 6000,
  creates: 600,
  streams: 200,
  // Node's fetch gives up a request that is not answered within 300 s, and many proxies do so earlier.
  wait: Duration.minutes(2)
}

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
    /** Counts a stream, a wait or a transfer of the account that asks, until the scope of its request closes. */
    readonly stream: Effect.Effect<void, TooManyStreams, CurrentActor | Scope.Scope>
    /** How long a request waits for a run before it is answered with the run's id. */
    readonly wait: Duration.Duration
  }
>()("http/Limits") {
  /** What is left out is as usual. */
  static readonly layer = (given: Partial<LimitOptions>) =>
    Layer.effect(
      Limits,
      Effect.gen(function* () {
        const options = { ...defaultLimits, ...given }
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
        const open = new Map<AccountId, number>()
        const count = (account: AccountId, by: 1 | -1) => {
          const now = (open.get(account) ?? 0) + by
          if (now === 0) open.delete(account)
          else open.set(account, now)
        }
        const opened = ({ id }: CurrentActor["Service"]) =>
          Effect.suspend(() => {
            if ((open.get(id) ?? 0) >= options.streams) return new TooManyStreams({ limit: options.streams })
            return Effect.sync(() => count(id, 1))
          })
        return Limits.of({
          stream: Effect.flatMap(CurrentActor, (actor) =>
            Effect.acquireRelease(opened(actor), () => Effect.sync(() => count(actor.id, -1)))
          ),
          wait: options.wait,
          request: (account) => consume("requests", options.requests, account),
          create: ({ account }) => consume("creates", options.creates, account)
        })
      })
    ).pipe(Layer.provide(RateLimiter.layerStoreMemory))
}
