import { duration, RunId, RunLog, RunStatus, TaskName, type TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { type DateTime, Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { forAccount, cursorOf, pageOf, Time, lastEventId } from "../Fields.ts"

import { Statuses } from "../Statuses.ts"

export const Run = Schema.Struct({
  id: RunId,
  taskIdentifier: TaskName,
  status: RunStatus,
  createdAt: Time,
  updatedAt: Time,
  startedAt: Schema.optionalKey(Time),
  finishedAt: Schema.optionalKey(Time),
  /** Milliseconds from its start to its end, or until now. */
  durationMs: Schema.Int,
  /** How often it was begun. */
  attempt: Schema.Int,
  tags: Schema.Array(Schema.String),
  metadata: Schema.Struct({ currentStep: Schema.optionalKey(Schema.String), logs: Schema.Array(RunLog) }),
  /** What its task leaves behind; of a command `{ stdout, stderr, exitCode, truncated }`. Only in the answer to one id. */
  output: Schema.optionalKey(Schema.Json),
  error: Schema.optionalKey(
    Schema.Struct({
      message: Schema.String.annotate({ description: "Why the run did not complete, as a sentence." }),
      code: Schema.optionalKey(
        Schema.String.annotate({
          description:
            "Why the run did not complete, for programs. Of a command: `command_not_found`, `command_is_directory`, `command_not_executable`, `interpreter_not_found`, `arguments_too_long`, `cwd_not_found`, `cwd_not_directory`, `cwd_not_accessible`, `command_not_started`, `command_lost`, `sandbox_stopped`, `sandbox_deleted`, `provider_unavailable`, `deadline` or `killed`. Of other tasks: `setup_failed` or `image_failed`. Left out on runs from before codes were kept."
        })
      )
    })
  )
}).annotate({ identifier: "Run" })

export const present = (run: TaskRun, now: DateTime.Utc): typeof Run.Type => ({
  id: run.id,
  taskIdentifier: run.task,
  status: run.status,
  createdAt: run.createdAt,
  updatedAt: run.updatedAt,
  ...(run.startedAt === null ? {} : { startedAt: run.startedAt }),
  ...(run.finishedAt === null ? {} : { finishedAt: run.finishedAt }),
  durationMs: duration(run, now),
  attempt: run.attempt,
  tags: [`account:${run.account}`],
  metadata: { logs: run.logs, ...(run.currentStep === null ? {} : { currentStep: run.currentStep }) },
  ...(run.output === null ? {} : { output: run.output }),
  ...(run.error === null
    ? {}
    : { error: { message: run.error, ...(run.errorCode === null ? {} : { code: run.errorCode }) } })
})

const Runs = Schema.Struct({
  status: Schema.Literal("success"),
  runs: Schema.Array(Run),
  /** Where the list goes on; left out on its last page. */
  next_cursor: Schema.optionalKey(cursorOf("runs"))
})

const byId = { params: { runId: Schema.String }, query: forAccount }

/** What became of the work that requests started. */
export class TaskRunsApi extends HttpApiGroup.make("runs")
  .add(
    HttpApiEndpoint.get("list", "/", {
      query: { ...forAccount, ...pageOf("runs"), runId: Schema.optionalKey(Schema.String) },
      success: Runs,
      error: [Statuses.AccountForbidden, Statuses.TaskRunNotFound]
    }).annotate(OpenApi.Summary, "One run by its id, or the account's runs, newest first"),
    HttpApiEndpoint.get("logs", "/:runId/logs", {
      ...byId,
      headers: { "last-event-id": Schema.optionalKey(lastEventId(/^(\d{1,12}\.\d{1,12})?$/)) },
      success: HttpApiSchema.StreamSse({
        events: Schema.Struct({ event: Schema.String, id: Schema.String, data: Schema.String })
      }),
      error: [Statuses.AccountForbidden, Statuses.TaskRunNotFound]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Follow what a run prints",
        description:
          'Server-sent events: `output` with `{"stream","text"}` from the start or after `Last-Event-ID`, as it appears; last `exit` with `{"status","exitCode","truncated"}`. `exitCode` is null where no command ran; `truncated` tells that the command printed more than the log has.'
      })
    ),
    HttpApiEndpoint.post("cancel", "/:runId/cancel", {
      ...byId,
      success: Schema.Struct({ status: Schema.Literal("success"), run: Run }),
      error: [Statuses.AccountForbidden, Statuses.TaskRunNotFound, Statuses.SandboxUnavailable]
    }).annotate(OpenApi.Summary, "End a run and every process of its command")
  )
  .prefix("/api/tasks/runs")
  .annotate(OpenApi.Title, "Task runs") {}
