/** The server's end, in order: who has to know that it has begun, and what it waits for. */
import { Context, Deferred, Duration, Effect, Exit, Scope } from "effect"

/** What the parts of a server can know of its end. */
export interface Ending {
  readonly hasBegun: () => boolean
  /** Completes once the server is told to end: no more is begun that another server could begin. */
  readonly begun: Effect.Effect<void>
  /** Completes once what is still under way is about to be cut. */
  readonly over: Effect.Effect<void>
}

/** The end of the server that all this is part of; it never comes where nobody says so. */
export const Shutdown = Context.Reference<Ending>("http/Shutdown", {
  defaultValue: () => ({ hasBegun: () => false, begun: Effect.never, over: Effect.never })
})

/** How long the end may take where nobody says more. */
export const defaultSeconds = 10

/** The end, for who brings it about. */
export interface Handle extends Ending {
  readonly begin: () => void
  readonly finish: () => void
  /** Whether there is something to bring to an end in order; before that a server is simply ended. */
  isServing: boolean
  /** How long all of it may take. */
  within: Duration.Duration
}

export const make = (): Handle => {
  const begun = Deferred.makeUnsafe<void>()
  const over = Deferred.makeUnsafe<void>()
  let hasBegun = false
  return {
    isServing: false,
    within: Duration.seconds(defaultSeconds),
    hasBegun: () => hasBegun,
    begun: Deferred.await(begun),
    over: Deferred.await(over),
    begin: () => {
      hasBegun = true
      Deferred.doneUnsafe(begun, Exit.void)
    },
    finish: () => void Deferred.doneUnsafe(over, Exit.void)
  }
}

/** What listens, as far as its end goes. */
export interface Listener {
  /** From now on every answer is the last on its connection. */
  readonly retire: () => void
  /** Lets nobody in any more. */
  readonly close: () => unknown
  /** Calls back once nothing is being answered. */
  readonly whenQuiet: (then: () => void) => void
  readonly closeAllConnections: () => void
}

/** How much of the time goes by before nobody is let in any more: until then balancers learn that we are not ready. */
const partListening = 0.4

/** How much of the time there is for what is being answered; the rest is for closing what the server has open. */
const partAnswering = 0.75

/**
 * Serves until the end has begun and what was being answered is answered, or its time is over. A busy server listens on
 * for a while, so that whoever sends requests here hears from `/ready` that they are to go elsewhere.
 */
export const served = Effect.fnUntraced(function* (ending: Handle, listener: Listener) {
  ending.isServing = true
  yield* ending.begun
  const quiet = Effect.callback<void>((resume) => listener.whenQuiet(() => resume(Effect.void)))
  const during = (part: number) => Effect.timeoutOption(quiet, Duration.times(ending.within, part))
  listener.retire()
  yield* during(partListening)
  listener.close()
  yield* during(partAnswering - partListening)
  ending.finish()
  // A word to those who still listen.
  yield* Effect.timeoutOption(quiet, "100 millis")
  listener.closeAllConnections()
})

/** Runs what goes on in the background until the end begins: another server goes on with it at once. */
export const untilBegun = <E, R>(background: Effect.Effect<unknown, E, R | Scope.Scope>) =>
  Effect.gen(function* () {
    const { begun } = yield* Shutdown
    const own = yield* Scope.fork(yield* Effect.scope)
    yield* Scope.provide(background, own)
    yield* Effect.forkScoped(Effect.andThen(begun, Scope.close(own, Exit.void)))
  })
