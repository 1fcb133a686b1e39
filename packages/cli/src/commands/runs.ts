/** `castellan runs`: lists, shows, follows and cancels runs. */
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { ask } from "../client/Client.ts"
import { account, id, page } from "../flags.ts"
import { followed, printedSoFar } from "../output/follow.ts"
import * as Output from "../output/Output.ts"
import { orNone, pages } from "../client/pages.ts"
import { fields, span, table } from "../output/Table.ts"
import type { Run } from "../client/Operations.ts"

const runId = id("ID", "The run's id")

const exitCodeOf = ({ output }: Run) =>
  typeof output === "object" && output !== null && "exitCode" in output ? String(output["exitCode"]) : undefined

const describe = (run: Run): string =>
  fields({
    run: run.id,
    task: run.taskIdentifier,
    status: run.status,
    ...(run.metadata.currentStep === undefined ? {} : { step: run.metadata.currentStep }),
    created: run.createdAt,
    started: run.startedAt,
    finished: run.finishedAt,
    took: span(run.durationMs),
    attempt: run.attempt,
    ...(exitCodeOf(run) === undefined ? {} : { "exit code": exitCodeOf(run) }),
    ...(run.error === undefined ? {} : { error: run.error.message })
  }) +
  (run.metadata.logs.length === 0 ? "" : "\n") +
  table(
    ["AT", "LOG"],
    run.metadata.logs.map(({ at, message }) => [at, message])
  )

const list = Command.make(
  "list",
  { account, ...page },
  Effect.fnUntraced(function* ({ account, all, limit }) {
    const answer = yield* pages("runs.list", "runs", { query: { account_id: account }, limit, all })
    yield* Output.present(answer, ({ runs }) =>
      table(
        ["RUN", "TASK", "STATUS", "CREATED", "TOOK"],
        runs.map((run) => [run.id, run.taskIdentifier, run.status, run.createdAt, span(run.durationMs)])
      )
    )
    yield* orNone("runs", answer.json.runs)
  })
).pipe(
  Command.withDescription("List runs, newest first"),
  Command.withExamples([{ command: "castellan runs list --limit 5" }])
)

const get = Command.make(
  "get",
  { id: runId, account },
  Effect.fnUntraced(function* ({ account, id }) {
    const answer = yield* ask("runs.list", { query: { runId: id, account_id: account } })
    yield* Output.present(answer, ({ runs }) => runs.map(describe).join(""))
  })
).pipe(
  Command.withDescription("Show a run: its status, steps and result"),
  Command.withExamples([{ command: "castellan runs get run_przh8wmwvnj7s0h78nq1" }])
)

const logs = Command.make(
  "logs",
  {
    id: runId,
    follow: Flag.Boolean("follow").pipe(
      Flag.withAlias("f"),
      Flag.withDescription("Keep printing until the run ends, and exit with its command's exit code"),
      Flag.withDefault(false)
    ),
    account
  },
  ({ account, follow, id }) => (follow ? followed({ run: id, account }) : printedSoFar({ run: id, account }))
).pipe(
  Command.withDescription(
    "Print the output of a run's command. With --json, print each event of the log as one line of JSON"
  ),
  Command.withShortDescription("Print or follow the output of a run's command"),
  Command.withExamples([{ command: "castellan runs logs -f run_przh8wmwvnj7s0h78nq1" }])
)

const cancel = Command.make(
  "cancel",
  { id: runId, account },
  Effect.fnUntraced(function* ({ account, id }) {
    const query = { account_id: account }
    const answer = yield* ask("runs.cancel", { params: { runId: id }, query })
    yield* Output.present(answer, ({ run }) => `${run.id} ${run.status}`)
  })
).pipe(
  Command.withDescription("Cancel a run and kill all processes that it started"),
  Command.withExamples([{ command: "castellan runs cancel run_przh8wmwvnj7s0h78nq1" }])
)

export const runs = Command.make("runs").pipe(
  Command.withDescription("List, show, follow and cancel runs"),
  Command.withExamples([{ command: "castellan runs list" }]),
  Command.withSubcommands([list, get, logs, cancel])
)
