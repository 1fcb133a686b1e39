import { duration, RunId, RunLog, RunStatus, TaskName, type TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { type DateTime, Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, HttpApiSchema, OpenApi } from "effect/http-api"
import { field, forAccount, lastEventId, nextPageOf, pageOf, success, Time } from "../Fields.ts"
import { Statuses } from "../Statuses.ts"
import { errorEvent, event } from "../StreamEvents.ts"

const Metadata = Schema.Struct({
  currentStep: field(Schema.optionalKey(Schema.String), "The step that the task works on."),
  logs: field(
    Schema.Array(
      Schema.Struct({
        at: field(RunLog.fields.at, "When it was logged, as an ISO 8601 string."),
        message: field(RunLog.fields.message, "The message.")
      })
    ),
    "The steps so far, oldest first."
  )
})

const RunError = Schema.Struct({
  message: field(Schema.String, "Why the run did not complete, as a sentence."),
  code: field(
    Schema.optionalKey(Schema.String),
    "Why the run did not complete, for programs. Of a command: `command_not_found`, `command_is_directory`, `command_not_executable`, `interpreter_not_found`, `arguments_too_long`, `cwd_not_found`, `cwd_not_directory`, `cwd_not_accessible`, `command_not_started`, `command_lost`, `sandbox_stopped`, `sandbox_deleted`, `provider_unavailable`, `deadline` or `killed`. Of other tasks: `setup_failed` or `image_failed`. Absent on runs from before codes were stored."
  )
})

export const Run = Schema.Struct({
  id: field(RunId, "The id of the run."),
  taskIdentifier: field(TaskName, "The task."),
  status: field(RunStatus, "The status. A command that exited with a code other than 0 is `COMPLETED`."),
  createdAt: field(Time, "When the run was created, as an ISO 8601 string."),
  updatedAt: field(Time, "When it last changed, as an ISO 8601 string."),
  startedAt: field(Schema.optionalKey(Time), "When it first started, as an ISO 8601 string. Absent before."),
  finishedAt: field(Schema.optionalKey(Time), "When it ended, as an ISO 8601 string. Absent before."),
  durationMs: field(Schema.Int, "Milliseconds from its start to its end, or until now."),
  attempt: field(Schema.Int, "How often it was started."),
  tags: field(Schema.Array(Schema.String), "`account:` with the id of its account."),
  metadata: field(Metadata, "Its progress."),
  output: field(
    Schema.optionalKey(Schema.Json),
    "The result of the task; of a command `{ stdout, stderr, exitCode, truncated }`, of a setup `{ githubRepo, snapshotId }`. Only in the response to a request for one run."
  ),
  error: field(Schema.optionalKey(RunError), "Why the run did not complete. Absent if it did.")
}).annotate({ identifier: "Run", description: "An execution of a task." })

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

/** The output of a run as it appears; `exit` is the last event. */
export const RunLogEvent = Schema.Union([
  event(
    "output",
    Schema.Struct({
      stream: field(Schema.Literals(["stdout", "stderr"]), "The stream that the command wrote to."),
      text: field(Schema.String, "What it wrote.")
    })
  ),
  event(
    "exit",
    Schema.Struct({
      status: field(RunStatus, "The final status of the run."),
      exitCode: field(Schema.NullOr(Schema.Int), "The exit code; null if no command ran to its end."),
      truncated: field(Schema.Boolean, "Whether the command wrote more than the log holds.")
    })
  ),
  errorEvent
])

const byId = { params: { runId: field(Schema.String, "The id of the run.") }, query: forAccount }

/** Task runs: the background work that requests start. */
export class TaskRunsApi extends HttpApiGroup.make("runs")
  .add(
    HttpApiEndpoint.get("list", "/", {
      query: {
        ...forAccount,
        ...pageOf("runs"),
        runId: field(Schema.optionalKey(Schema.String), "Lists only the run with this id. Default: all runs.")
      },
      success: Schema.Struct({
        ...success,
        runs: field(Schema.Array(Run), "The runs, newest first."),
        ...nextPageOf("runs")
      }),
      error: [Statuses.AccountForbidden, Statuses.TaskRunNotFound]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "List runs, or get one by its id",
        description: "404 if `runId` is not a run of the account. An empty `runId` counts as absent."
      })
    ),
    HttpApiEndpoint.get("logs", "/:runId/logs", {
      ...byId,
      headers: lastEventId(/^(\d{1,12}\.\d{1,12})?$/),
      success: HttpApiSchema.StreamSse({ events: RunLogEvent }),
      error: [Statuses.AccountForbidden, Statuses.TaskRunNotFound]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Follow the output of a run",
        description:
          "Streams server-sent events: `output` with `stream` and `text`, from the start or after `Last-Event-ID`; at the end `exit` with `status`, `exitCode` and `truncated`."
      })
    ),
    HttpApiEndpoint.post("cancel", "/:runId/cancel", {
      ...byId,
      success: Schema.Struct({ ...success, run: Run }),
      error: [Statuses.AccountForbidden, Statuses.TaskRunNotFound, Statuses.SandboxUnavailable]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Cancel a run",
        description: "Kills every process of its command. A run that has ended stays as it is."
      })
    )
  )
  .prefix("/api/tasks/runs")
  .annotate(OpenApi.Title, "Task runs") {}
