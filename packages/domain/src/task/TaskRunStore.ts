/** Where task runs are kept, whatever queue carries them. A NUL in a text may come back as U+FFFD. */
import { Context, type Effect, type Option } from "effect"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { Page, PageOf } from "../Page.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { AppliedRunTransition, RunId, TaskRun } from "./TaskRun.ts"

export class TaskRunStore extends Context.Service<
  TaskRunStore,
  {
    /** The run of that id, if it belongs to the scope's account. */
    readonly get: (scope: AccountScope, id: RunId) => Effect.Effect<Option.Option<TaskRun>>
    /** The runs of the scope's account, newest first, without their output. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<TaskRun>>
    /** The runs of the scope's account that work in a sandbox and have not ended, without their logs. */
    readonly liveIn: (scope: AccountScope, sandbox: SandboxName) => Effect.Effect<ReadonlyArray<TaskRun>>
    /**
     * Writes the run if the stored one is of the version before it, and tells whether it did: of two that write at
     * once one is refused. A run of another account is left as it is.
     */
    readonly compareAndSet: (scope: AccountScope, applied: AppliedRunTransition) => Effect.Effect<boolean>
  }
>()("domain/task/TaskRunStore") {}
