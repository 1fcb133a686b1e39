/** Timeouts for programs in a sandbox, which may never answer. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Stream } from "effect"

/** How long a program may print nothing: before its first byte, between two bytes, and after the last one. */
export const defaultSilence = Duration.seconds(30)

const noAnswer = (operation: string, after: Duration.Duration) =>
  new SandboxUnavailable({
    operation,
    retryable: true,
    fault: "no_answer",
    cause: new Error(`${operation}: no response within ${Duration.format(after)}`)
  })

/** Fails with `no_answer` if the whole effect takes longer. */
export const withDeadline = (operation: string, after: Duration.Duration) =>
  Effect.timeoutOrElse({ duration: after, orElse: () => Effect.fail(noAnswer(operation, after)) })

/** Fails with `no_answer` if the next chunk takes longer. Only the time counts in which the reader waits for it. */
export const failOnSilence =
  (operation: string, after: Duration.Duration) =>
  <A, E, R>(chunks: Stream.Stream<A, E, R>): Stream.Stream<A, E | SandboxUnavailable, R> =>
    Stream.transformPull(chunks, (pull) => Effect.succeed(withDeadline(operation, after)(pull)))
