/** Runs in Postgres. */
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { RunId, RunLog, RunStatus, TaskName, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { DateTime, Effect, Layer, Option, Schema } from "effect"
import { type Insertable, type Selectable, sql } from "kysely"
import { Db, query } from "../Db.ts"
import { after, toPage } from "../sql/keyset.ts"
import type { Tables } from "../sql/Tables.ts"
import { timeOrNull, toDate, toDateOrNull } from "../sql/times.ts"

const Logs = Schema.fromJsonString(Schema.Array(RunLog))
const toLogs = Schema.decodeUnknownSync(Logs)
const fromLogs = Schema.encodeSync(Logs)
const toTask = Schema.decodeUnknownSync(TaskName)
const toStatus = Schema.decodeUnknownSync(RunStatus)

export const toRun = (row: Selectable<Tables["task_runs"]>): TaskRun =>
  new TaskRun({
    id: RunId.make(row.id),
    account: AccountId.make(row.account_id),
    task: toTask(row.task),
    sandbox: row.sandbox === null ? null : SandboxName.make(row.sandbox),
    input: JSON.parse(row.input) as Schema.Json,
    status: toStatus(row.status),
    attempt: row.attempt,
    currentStep: row.current_step,
    logs: toLogs(row.logs),
    output: row.output === null ? null : (JSON.parse(row.output) as Schema.Json),
    error: row.error,
    errorCode: row.error_code,
    createdAt: DateTime.makeUnsafe(row.created_at),
    updatedAt: DateTime.makeUnsafe(row.updated_at),
    startedAt: timeOrNull(row.started_at),
    finishedAt: timeOrNull(row.finished_at),
    version: row.version
  })

export const toRow = (run: TaskRun): Insertable<Tables["task_runs"]> => ({
  id: run.id,
  account_id: run.account,
  task: run.task,
  sandbox: run.sandbox,
  input: JSON.stringify(run.input),
  status: run.status,
  attempt: run.attempt,
  current_step: run.currentStep,
  logs: fromLogs(run.logs),
  output: run.output === null ? null : JSON.stringify(run.output),
  error: run.error,
  error_code: run.errorCode,
  created_at: toDate(run.createdAt),
  updated_at: toDate(run.updatedAt),
  started_at: toDateOrNull(run.startedAt),
  finished_at: toDateOrNull(run.finishedAt),
  version: run.version
})

export const layer = Layer.effect(
  TaskRunStore,
  Effect.gen(function* () {
    const { kysely } = yield* Db

    return TaskRunStore.of({
      get: (scope, id) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("task_runs")
              .selectAll()
              .where("id", "=", id)
              .where("account_id", "=", scope.account)
              .executeTakeFirst()
          ),
          (row) => Option.map(Option.fromUndefinedOr(row), toRun)
        ),
      list: (scope, page) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("task_runs")
              .select([
                "id",
                "account_id",
                "task",
                "sandbox",
                "input",
                "status",
                "attempt",
                "current_step",
                "logs",
                "error",
                "error_code"
              ])
              .select(["created_at", "updated_at", "started_at", "finished_at", "version"])
              .select(sql<null>`null`.as("output"))
              .where("account_id", "=", scope.account)
              .where(after(page, "id"))
              .orderBy("created_at", "desc")
              .orderBy("id", "desc")
              .limit(page.limit + 1)
              .execute()
          ),
          (rows) => toPage(rows.map(toRun), page, (run) => ({ at: run.createdAt.epochMilliseconds, id: run.id }))
        ),
      liveIn: (scope, sandbox) =>
        Effect.map(
          query(() =>
            kysely
              .selectFrom("task_runs")
              .select(["id", "account_id", "task", "sandbox", "input", "status", "attempt", "current_step", "output"])
              .select(["error", "error_code", "created_at", "updated_at", "started_at", "finished_at", "version"])
              .select(sql<string>`'[]'`.as("logs"))
              .where("sandbox", "=", sandbox)
              .where("finished_at", "is", null)
              .where("account_id", "=", scope.account)
              .execute()
          ),
          (rows) => rows.map(toRun)
        ),
      compareAndSet: (scope, { after: run, expectedVersion }) => {
        const {
          account_id: _,
          created_at: __,
          id: ___,
          input: ____,
          sandbox: _____,
          task: ______,
          ...change
        } = toRow(run)
        return Effect.map(
          query(() =>
            kysely
              .updateTable("task_runs")
              .set(change)
              .where("id", "=", run.id)
              .where("account_id", "=", scope.account)
              .where("version", "=", expectedVersion)
              .returning("id")
              .execute()
          ),
          (rows) => rows.length > 0
        )
      }
    })
  })
)
