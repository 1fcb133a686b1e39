/** Graceful shutdown: signals the parts of the server, drains requests, then closes connections. */
import { Context, Deferred, Duration, Effect, Exit, Scope } from "effect"

/** The shutdown as the parts of a server see it. */
export interface ShutdownSignal {
  readonly hasBegun: () => boolean
  /** Completes when shutdown begins: start no work that another server could do. */
  readonly begun: Effect.Effect<void>
  /** Completes shortly before open connections are closed. */
  readonly closing: Effect.Effect<void>
}

/** The shutdown of the server that runs this code. Where there is no such server, it never begins. */
export const Shutdown = Context.Reference<ShutdownSignal>("http/Shutdown", {
  defaultValue: () => ({ hasBegun: () => false, begun: Effect.never, closing: Effect.never })
})

/** Seconds that a shutdown may take. */
export const defaultSeconds = 10

/** The shutdown as the process controls it. */
export interface ShutdownControl extends ShutdownSignal {
  readonly begin: () => void
  readonly beginClosing: () => void
  /** Whether the server accepts requests. Until then there is nothing to drain, and the start is interrupted. */
  isServing: boolean
  /** How long the whole shutdown may take. */
  timeout: Duration.Duration
}

export const make = (): ShutdownControl => {
  const begun = Deferred.makeUnsafe<void>()
  const closing = Deferred.makeUnsafe<void>()
  let hasBegun = false
  return {
    isServing: false,
    timeout: Duration.seconds(defaultSeconds),
    hasBegun: () => hasBegun,
    begun: Deferred.await(begun),
    closing: Deferred.await(closing),
    begin: () => {
      hasBegun = true
      Deferred.doneUnsafe(begun, Exit.void)
    },
    beginClosing: () => void Deferred.doneUnsafe(closing, Exit.void)
  }
}

/** The HTTP server as the shutdown uses it. */
export interface Listener {
  /** From now on each response is the last on its connection. */
  readonly drain: () => void
  /** Accepts no more connections. */
  readonly close: () => unknown
  /** Calls back once no request is being handled. */
  readonly whenIdle: (callback: () => void) => void
  readonly closeAllConnections: () => void
}

/** Share of the timeout in which a busy server still accepts connections: load balancers see that `/ready` fails. */
const acceptingShare = 0.4

/** Share of the timeout after which open requests are cut. The rest is for closing the database and other resources. */
const drainingShare = 0.75

/** Serves until shutdown has begun and either all requests are finished or their share of the timeout has elapsed. */
export const serveUntilShutdown = Effect.fnUntraced(function* (shutdown: ShutdownControl, listener: Listener) {
  shutdown.isServing = true
  yield* shutdown.begun
  const idle = Effect.callback<void>((resume) => listener.whenIdle(() => resume(Effect.void)))
  const idleWithin = (share: number) => Effect.timeoutOption(idle, Duration.times(shutdown.timeout, share))
  listener.drain()
  yield* idleWithin(acceptingShare)
  listener.close()
  yield* idleWithin(drainingShare - acceptingShare)
  shutdown.beginClosing()
  // Streams now send their last event.
  yield* Effect.timeoutOption(idle, "100 millis")
  listener.closeAllConnections()
})

/** Runs background work until shutdown begins, so that another server can take it over at once. */
export const untilShutdown = <E, R>(background: Effect.Effect<unknown, E, R | Scope.Scope>) =>
  Effect.gen(function* () {
    const { begun } = yield* Shutdown
    const scope = yield* Scope.fork(yield* Effect.scope)
    yield* Scope.provide(background, scope)
    yield* Effect.forkScoped(Effect.andThen(begun, Scope.close(scope, Exit.void)))
  })
