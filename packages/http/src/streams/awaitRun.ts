/** Waits for a run on behalf of a request. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { RunId, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import type { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { Cause, type Duration, Effect, Option } from "effect"
import { waitFor } from "../api/NewCommand.ts"
import { Shutdown } from "../server/Shutdown.ts"

export interface Wait<E, R> {
  /** The run's own timeout. */
  readonly timeout: Duration.Duration
  /** The longest time that the request waits. */
  readonly maxWait: Duration.Duration
  /** Fails once the caller loses access. */
  readonly lost: Effect.Effect<never, E, R>
}

/**
 * The run when it has ended or its own timeout is over. None if the wait ends earlier and the run continues: after
 * `maxWait`, when the server shuts down, or when the client disconnects. A request with an idempotency key must not be
 * interrupted, because its response is stored for a retry; so an interrupt ends only the wait.
 */
export const awaitRun = <E, R>(
  runs: TaskRuns["Service"],
  scope: AccountScope,
  id: RunId,
  { lost, maxWait, timeout }: Wait<E, R>
): Effect.Effect<Option.Option<TaskRun>, E, R> => {
  const ended = Effect.map(Effect.orDie(runs.awaitEnd(scope, id, waitFor(timeout))), Option.some)
  const waitEnded = Effect.flatMap(Shutdown, ({ begun }) => Effect.timeoutOption(begun, maxWait))
  return Effect.raceAllFirst([ended, Effect.as(waitEnded, Option.none<TaskRun>()), lost]).pipe(
    Effect.interruptible,
    Effect.catchCause((cause) => (Cause.hasInterruptsOnly(cause) ? Effect.succeedNone : Effect.failCause(cause)))
  )
}
