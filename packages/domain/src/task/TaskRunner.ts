/** The durable queue that delivers task runs to workers. */
import { Context, type DateTime, type Duration, type Effect, Schema, type Scope } from "effect"
import type { TaskName, TaskRun } from "./TaskRun.ts"

/** The attempt failed and another may succeed: the run is delivered again after `after`. */
export class RetryLater extends Schema.TaggedError<RetryLater>()("RetryLater", {
  after: Schema.Duration
}) {}

/** The runs of a task that wait for a worker. */
export interface Backlog {
  readonly task: TaskName
  /** Number of runs. */
  readonly depth: number
  /** When the oldest of them was created. */
  readonly oldest: DateTime.Utc
}

export class TaskRunner extends Context.Service<
  TaskRunner,
  {
    /** Inserts the run's row and queues it, both or neither. Idempotent on the run's id. */
    readonly enqueue: (run: TaskRun) => Effect.Effect<void>
    /**
     * Works on the queued runs of a task until the scope closes: `concurrency` at a time, the oldest first. Every run is
     * delivered at least once, to one worker at a time, with its current row. A run whose `work` succeeds is not delivered
     * again. A run that fails with `RetryLater`, or whose worker died, is.
     */
    readonly process: (
      task: TaskName,
      options: { readonly concurrency: number },
      work: (run: TaskRun) => Effect.Effect<void, RetryLater>
    ) => Effect.Effect<void, never, Scope.Scope>
    /** By task, the runs that wait for a worker and are not delayed. Tasks without such runs are left out. */
    readonly backlog: Effect.Effect<ReadonlyArray<Backlog>>
    /** Dies if the queue can't be reached. For the readiness check. */
    readonly ping: Effect.Effect<void>
  }
>()("domain/task/TaskRunner") {}

/** Time without a heartbeat after which another worker takes over a run. */
export const heartbeatTimeout: Duration.Input = "30 seconds"
