/** Streams over async generators that release their resources as soon as the reader leaves. */
import { Effect, Stream } from "effect"

/**
 * A stream of the values of an async iterable. A generator that waits in the middle of a pull can't be ended from outside:
 * `return()` takes effect only after that pull. The signal aborts when the stream's scope closes, and the iterable must end
 * every wait then.
 */
export const abortableStream = <A, E>(
  iterable: (signal: AbortSignal) => AsyncIterable<A>,
  onError: (cause: unknown) => E
): Stream.Stream<A, E> =>
  Stream.unwrap(
    Effect.map(
      Effect.acquireRelease(
        Effect.sync(() => new AbortController()),
        (controller) => Effect.sync(() => controller.abort())
      ),
      ({ signal }) => Stream.fromAsyncIterable(iterable(signal), onError)
    )
  )
