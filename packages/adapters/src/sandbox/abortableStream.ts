/** Streams over Node's async iterables that give up what they hold as soon as nobody reads them. */
import { Effect, Stream } from "effect"

/**
 * The stream of what `pieces` gives. An async generator that waits in the middle of a pull can't be ended from outside:
 * `return()` takes effect only once that pull is over. The signal aborts when the stream's scope closes, and `pieces` has
 * to end every wait then.
 */
export const abortableStream = <A, E>(
  pieces: (signal: AbortSignal) => AsyncIterable<A>,
  onError: (cause: unknown) => E
): Stream.Stream<A, E> =>
  Stream.unwrap(
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new AbortController()),
        (reader) => Effect.sync(() => reader.abort())
      ),
      ({ signal }) => Stream.fromAsyncIterable(pieces(signal), onError)
    )
  )
