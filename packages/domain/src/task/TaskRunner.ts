/** The durable queue that carries task runs to whoever works on them. */
import { Context, type DateTime, type Duration, type Effect, Schema, type Scope } from "effect"
import type { TaskName, TaskRun } from "./TaskRun.ts"

/** This attempt did not work out and another may: after `after` the run is delivered again. */
export class RetryLater extends Schema.TaggedError<RetryLater>()("RetryLater", {
  after: Schema.Duration
}) {}

/** What waits for the workers of a task. */
export interface Backlog {
  readonly task: TaskName
  readonly depth: number
  readonly oldest: DateTime.Utc
}

export class TaskRunner extends Context.Service<
  TaskRunner,
  {
    /** Writes the run's row and queues it, both or neither. Idempotent on the run's id. */
    readonly enqueue: (run: TaskRun) => Effect.Effect<void>
    /**
     * Works on the queued runs of a task for as long as the scope is open, `concurrency` at a time and the oldest
     * first. Every run is delivered at least once and to one worker at a time, as its row stands then. A run whose
     * `work` succeeds is not delivered again; one that asks to `RetryLater`, or whose worker died, is.
     */
    readonly process: (
      task: TaskName,
      options: { readonly concurrency: number },
      work: (run: TaskRun) => Effect.Effect<void, RetryLater>
    ) => Effect.Effect<void, never, Scope.Scope>
    /** By task, the runs that wait for a worker and could be worked on now, and when the oldest of them was created; nothing of a task for which none waits. */
    readonly backlog: Effect.Effect<ReadonlyArray<Backlog>>
    /** Dies where the queue can't be reached; for the readiness check. */
    readonly ping: Effect.Effect<void>
  }
>()("domain/task/TaskRunner") {}

/** How long a worker that fell silent keeps its run before another takes it over. */
export const heartbeatTimeout: Duration.Input = "30 seconds"
