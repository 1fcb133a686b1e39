/** Streams files in responses. */
import { Cause, Effect, Stream } from "effect"

/** Pulls the first chunk, so that a stream that can't start fails while the response can still become an error. */
export const startStream = Effect.fnUntraced(function* <A, E>(stream: Stream.Stream<A, E>) {
  const pull = yield* Stream.toPull(stream)
  const first = yield* pull.pipe(Effect.catchIf(Cause.isDone, () => Effect.succeed([] as ReadonlyArray<A>)))
  return first.length === 0
    ? Stream.empty
    : Stream.concat(Stream.fromIterable(first), Stream.fromPull(Effect.succeed(pull)))
})
