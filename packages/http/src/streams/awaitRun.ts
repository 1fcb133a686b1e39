/** Waiting for a run on behalf of a request. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { RunId, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import type { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { Cause, type Duration, Effect, Option } from "effect"
import { waitFor } from "../api/NewCommand.ts"
import { Shutdown } from "../server/Shutdown.ts"

export interface Wait<E, R> {
  /** How long the run may take. */
  readonly timeout: Duration.Duration
  /** How long the request waits at most. */
  readonly atMost: Duration.Duration
  /** Fails once the caller may no longer wait. */
  readonly lost: Effect.Effect<never, E, R>
}

/**
 * The run once it has ended, or as it stands when its own time is over. None where the wait ends before that, and the run
 * goes on: the request has waited as long as it may, this server ends, or the caller hung up. A request with an idempotency
 * key is not interrupted then: its answer is saved for the caller's next attempt, so the wait itself has to end.
 */
export const awaitRun = <E, R>(
  runs: TaskRuns["Service"],
  scope: AccountScope,
  id: RunId,
  { atMost, lost, timeout }: Wait<E, R>
): Effect.Effect<Option.Option<TaskRun>, E, R> => {
  const ended = Effect.map(Effect.orDie(runs.awaitEnd(scope, id, waitFor(timeout))), Option.some)
  const givenUp = Effect.flatMap(Shutdown, ({ begun }) => Effect.timeoutOption(begun, atMost))
  return Effect.raceAllFirst([ended, Effect.as(givenUp, Option.none<TaskRun>()), lost]).pipe(
    Effect.interruptible,
    Effect.catchCause((cause) => (Cause.hasInterruptsOnly(cause) ? Effect.succeedNone : Effect.failCause(cause)))
  )
}
