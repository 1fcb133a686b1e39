/** Waiting for a run on behalf of a request. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { RunId } from "@castellan/domain/task/TaskRun.ts"
import type { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { type Duration, Effect } from "effect"
import { waitFor } from "./api/NewCommand.ts"
import { Shutdown } from "./Shutdown.ts"

/** The run once it has ended, or as it stands when its time is over or this server ends: others go on with it. */
export const waited = (runs: TaskRuns["Service"], scope: AccountScope, id: RunId, timeout: Duration.Duration) =>
  Effect.flatMap(Shutdown, ({ begun }) =>
    Effect.orDie(
      Effect.raceFirst(runs.awaitEnd(scope, id, waitFor(timeout)), Effect.andThen(begun, runs.get(scope, id)))
    )
  )
