/** Stores task runs, whichever queue delivers them. A NUL in a text may be read back as U+FFFD. */
import { Context, type Effect, type Option } from "effect"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { Page, PageOf } from "../Page.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { AppliedRunTransition, RunId, TaskRun } from "./TaskRun.ts"

export class TaskRunStore extends Context.Service<
  TaskRunStore,
  {
    /** The run with this id, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, id: RunId) => Effect.Effect<Option.Option<TaskRun>>
    /** The runs of the scope's account, newest first, without their output. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<TaskRun>>
    /** The runs of the scope's account that work in a sandbox and have not ended, without their logs. */
    readonly liveIn: (scope: AccountScope, sandbox: SandboxName) => Effect.Effect<ReadonlyArray<TaskRun>>
    /**
     * Writes the run if the stored version is the one before it, and returns whether it did: one of two concurrent
     * writes is refused. Leaves a run of another account unchanged.
     */
    readonly compareAndSet: (scope: AccountScope, applied: AppliedRunTransition) => Effect.Effect<boolean>
  }
>()("domain/task/TaskRunStore") {}
