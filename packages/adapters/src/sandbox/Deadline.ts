/** Deadlines for programs inside a sandbox, which may never answer. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Stream } from "effect"

/** How long a program inside may be silent before its first byte, between two bytes, and after the last one. */
export const defaultSilence = Duration.seconds(30)

const noAnswer = (operation: string, after: Duration.Duration) =>
  new SandboxUnavailable({
    operation,
    retryable: true,
    fault: "no_answer",
    cause: new Error(`${operation}: no answer in ${Duration.format(after)}`)
  })

/** Fails where the whole takes longer. */
export const withDeadline = (operation: string, after: Duration.Duration) =>
  Effect.timeoutOrElse({ duration: after, orElse: () => Effect.fail(noAnswer(operation, after)) })

/** Fails where the next piece takes longer. Only the time counts in which the reader waits for it. */
export const failOnSilence =
  (operation: string, after: Duration.Duration) =>
  <A, E, R>(pieces: Stream.Stream<A, E, R>): Stream.Stream<A, E | SandboxUnavailable, R> =>
    Stream.transformPull(pieces, (pull) => Effect.succeed(withDeadline(operation, after)(pull)))
