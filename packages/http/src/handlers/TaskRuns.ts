import { Access } from "@castellan/domain/identity/Access.ts"
import type { CurrentCredential } from "@castellan/domain/identity/Credential.ts"
import type { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunNotFound, TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { DateTime, Effect, Schema } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Api } from "../api/Api.ts"
import { present } from "../api/groups/TaskRuns.ts"
import { Limits } from "../middleware/Limits.ts"
import * as RunLogStream from "../streams/RunLogStream.ts"

const isRunId = Schema.is(RunId)

/** A malformed id names no run. */
const runId = (text: string) => (isRunId(text) ? Effect.succeed(text) : new TaskRunNotFound({ id: text }))

export const TaskRunsHandlers = HttpApiBuilder.group(
  Api,
  "runs",
  Effect.fn(function* (handlers) {
    const runs = yield* TaskRuns
    const limits = yield* Limits
    const { scopeOf, untilLost } = yield* Access

    return handlers.handleAll({
      list: Effect.fnUntraced(function* ({ query: { account_id, cursor = null, limit = 20, runId: wanted = "" } }) {
        const scope = yield* scopeOf(account_id)
        const found =
          wanted.trim() === ""
            ? yield* runs.list(scope, { limit, cursor })
            : { rows: [yield* runs.get(scope, yield* runId(wanted.trim()))], next: null }
        const now = yield* DateTime.now
        return {
          status: "success" as const,
          runs: found.rows.map((run) => present(run, now)),
          ...(found.next === null ? {} : { next_cursor: found.next })
        }
      }),
      logs: Effect.fnUntraced(function* ({ headers, params, query }) {
        const scope = yield* scopeOf(query.account_id)
        const run = yield* runs.get(scope, yield* runId(params.runId))
        yield* limits.stream
        const log = runs.log(scope, run.id, RunLogStream.positionAfter(headers["last-event-id"]))
        return RunLogStream.respond(
          log,
          Effect.provide(untilLost(scope), yield* Effect.context<CurrentActor | CurrentCredential>())
        )
      }),
      cancel: Effect.fnUntraced(function* ({ params, query }) {
        const scope = yield* scopeOf(query.account_id)
        const run = yield* runs.cancel(scope, yield* runId(params.runId))
        return { status: "success" as const, run: present(run, yield* DateTime.now) }
      })
    })
  })
)
