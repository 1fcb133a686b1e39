/** Files as answers: an answer may still become an error for as long as nothing of it was sent. */
import { Cause, Effect, Stream } from "effect"

/** The stream with its first piece in hand, so that one that can't begin fails here. Lives as long as the request. */
export const begun = Effect.fnUntraced(function* <A, E>(stream: Stream.Stream<A, E>) {
  const pull = yield* Stream.toPull(stream)
  const first = yield* pull.pipe(Effect.catchIf(Cause.isDone, () => Effect.succeed([] as ReadonlyArray<A>)))
  return first.length === 0
    ? Stream.empty
    : Stream.concat(Stream.fromIterable(first), Stream.fromPull(Effect.succeed(pull)))
})
