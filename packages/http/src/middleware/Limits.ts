/** Rate limits and stream quotas of accounts. Each server counts by itself, so N servers allow up to N times the limit. */
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { Clock, Context, Duration, Effect, Layer, type Scope } from "effect"
import { RateLimiter } from "effect/persistence"
import { RateLimits } from "../api/RateLimits.ts"
import { RateLimited, TooManyStreams } from "../api/Statuses.ts"

export interface LimitOptions {
  /** Requests of an account per minute. */
  readonly requests: number
  /** Creations of an account per minute: sandboxes, apps, sessions, setups, snapshots, and openings of sessions. */
  readonly creates: number
  /** Streams, waits and file transfers of an account that may be open at the same time. */
  readonly streams: number
  /** How long a request waits for the end of a run before it gets the run's id instead. */
  readonly wait: Duration.Duration
}

/** Far above the use of a person or an agent, and below the load that slows the server for other accounts. */
export const defaultLimits: LimitOptions = {
  requests: 6000,
  creates: 600,
  streams: 200,
  // Node's fetch aborts a request without a response after 300 s, and many proxies abort earlier.
  wait: Duration.minutes(2)
}

const window = Duration.minutes(1)

/** A clock of elapsed time, so that the buckets keep filling after the system clock is set back. */
const monotonic = (clock: Clock.Clock): Clock.Clock => ({
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
    /** Counts a request of the account. */
    readonly request: (account: AccountId) => Effect.Effect<void, RateLimited>
    /** Counts a creation for the account. */
    readonly create: (scope: AccountScope) => Effect.Effect<void, RateLimited>
    /** Counts a stream, wait or transfer of the caller until the scope of the request closes. */
    readonly stream: Effect.Effect<void, TooManyStreams, CurrentActor | Scope.Scope>
    /** How long a request waits for the end of a run before it gets the run's id instead. */
    readonly wait: Duration.Duration
  }
>()("http/Limits") {
  /** Options that are left out have their defaults. */
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
            Effect.updateService(Clock.Clock, monotonic),
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

/** Counts each request of an authenticated caller. */
export const rateLimits = Layer.effect(
  RateLimits,
  Effect.map(Limits, (limits) =>
    RateLimits.of((endpoint) =>
      CurrentActor.pipe(
        Effect.flatMap(({ id }) => limits.request(id)),
        Effect.andThen(endpoint)
      )
    )
  )
)
