/** Commands for whole sandboxes: create, list, show, fork, extend, stop. */
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { ask } from "../client/Client.ts"
import { UsageRefused } from "../client/Failure.ts"
import {
  account,
  commandLine,
  cwd,
  duration,
  id,
  millisOf,
  noFollow,
  page,
  requiredCommandLine,
  text
} from "../flags.ts"
import { followed } from "../output/follow.ts"
import * as Output from "../output/Output.ts"
import { orNone, pages } from "../client/pages.ts"
import { fields, span, table } from "../output/Table.ts"
import type { ResponseOf, Sandbox, StartedRun } from "../client/Operations.ts"

const listed = (sandboxes: ReadonlyArray<Sandbox>): string =>
  table(
    ["SANDBOX", "STATUS", "TIME LEFT", "CREATED"],
    sandboxes.map((one) => [one.sandboxId, one.sandboxStatus, span(one.timeout), one.createdAt])
  )

const shown = ({ sandbox }: Pick<ResponseOf<"sandbox.get">, "sandbox">): string =>
  fields({
    sandbox: sandbox.sandboxId,
    status: sandbox.sandboxStatus,
    "time left": span(sandbox.timeout),
    created: sandbox.createdAt,
    ...(sandbox.runId === undefined ? {} : { run: sandbox.runId })
  })

const sandboxId = id("ID", "The sandbox's id")

const create = Command.make(
  "create",
  {
    command: commandLine,
    cwd,
    prompt: text("prompt", "TEXT", "Run the agent with this prompt"),
    account,
    noFollow
  },
  Effect.fnUntraced(function* ({ account, command: [command, ...args], cwd, noFollow, prompt }) {
    if (command !== undefined && prompt !== undefined) {
      return yield* new UsageRefused({ say: "a command and --prompt can't be combined: use one of them" })
    }
    const body = { command, args: command === undefined ? undefined : args, cwd, prompt, account_id: account }
    const answer = yield* ask("sandboxes.create", { body })
    const [sandbox] = answer.json.sandboxes
    if (sandbox?.runId === undefined || noFollow || (yield* Output.isForProgram)) {
      return yield* Output.present(answer, ({ sandboxes }) => sandboxes.map((sandbox) => shown({ sandbox })).join(""))
    }
    yield* Output.say(`${sandbox.sandboxId} runs ${sandbox.runId}`)
    yield* followed({ run: sandbox.runId, account })
  })
).pipe(
  Command.withDescription(
    "Create a sandbox. With a command or a prompt, run it there, print its output and exit with its exit code"
  ),
  Command.withShortDescription("Create a sandbox and run a command in it"),
  Command.withExamples([
    { command: "castellan sandboxes create" },
    { command: "castellan sandboxes create -- node -p '6 * 7'" },
    { command: "castellan sandboxes create --prompt 'Write a haiku to haiku.txt'" }
  ])
)

const list = Command.make(
  "list",
  { account, ...page },
  Effect.fnUntraced(function* ({ account, all, limit }) {
    const answer = yield* pages("sandboxes.list", "sandboxes", {
      query: { account_id: account },
      limit,
      all
    })
    yield* Output.present(answer, ({ sandboxes }) => listed(sandboxes))
    yield* orNone("sandboxes", answer.json.sandboxes)
  })
).pipe(
  Command.withDescription("List sandboxes, newest first"),
  Command.withExamples([{ command: "castellan sandboxes list --limit 10" }])
)

const get = Command.make(
  "get",
  { id: sandboxId, account },
  Effect.fnUntraced(function* ({ account, id }) {
    const answer = yield* ask("sandbox.get", { params: { sandboxId: id }, query: { account_id: account } })
    yield* Output.present(answer, shown)
  })
).pipe(
  Command.withDescription("Show a sandbox"),
  Command.withExamples([{ command: "castellan sandboxes get sbx_przh8wmwvnj7s0h78nq1" }])
)

const run = Command.make(
  "run",
  {
    id: sandboxId,
    command: requiredCommandLine,
    cwd,
    account,
    noFollow
  },
  Effect.fnUntraced(function* ({ account, command: [command, ...args], cwd, id, noFollow }) {
    const answer = yield* ask<"sandbox.run", StartedRun<"sandbox.run">>("sandbox.run", {
      params: { sandboxId: id },
      query: { account_id: account },
      body: { command, args, cwd }
    })
    if (noFollow || (yield* Output.isForProgram)) return yield* Output.present(answer, ({ runId }) => runId)
    yield* followed({ run: answer.json.runId, account })
  })
).pipe(
  Command.withDescription("Run a command in a sandbox, print its output and exit with its exit code"),
  Command.withExamples([{ command: "castellan sandboxes run sbx_przh8wmwvnj7s0h78nq1 -- npm test" }])
)

const snapshot = Command.make(
  "snapshot",
  { id: sandboxId, account },
  Effect.fnUntraced(function* ({ account, id }) {
    const query = { account_id: account }
    const answer = yield* ask("sandbox.snapshot", { params: { sandboxId: id }, query })
    yield* Output.present(answer, ({ expiresAt, snapshotId }) => fields({ snapshot: snapshotId, expires: expiresAt }))
    if (answer.json.stopped) yield* Output.say(`the provider stopped ${id} to take the snapshot`)
  })
).pipe(
  Command.withDescription("Save a sandbox's files as a snapshot"),
  Command.withExamples([{ command: "castellan sandboxes snapshot sbx_przh8wmwvnj7s0h78nq1" }])
)

const fork = Command.make(
  "fork",
  { id: sandboxId, account },
  Effect.fnUntraced(function* ({ account, id }) {
    const query = { account_id: account }
    const answer = yield* ask("sandbox.fork", { params: { sandboxId: id }, query })
    yield* Output.present(answer, shown)
  })
).pipe(
  Command.withDescription("Create a new sandbox with the files of this one"),
  Command.withExamples([{ command: "castellan sandboxes fork sbx_przh8wmwvnj7s0h78nq1" }])
)

const extend = Command.make(
  "extend",
  {
    id: sandboxId,
    duration,
    account
  },
  Effect.fnUntraced(function* ({ account, duration, id }) {
    const answer = yield* ask("sandbox.extend", {
      params: { sandboxId: id },
      query: { account_id: account },
      body: { ms: millisOf(duration) }
    })
    yield* Output.present(answer, shown)
  })
).pipe(
  Command.withDescription("Extend the time until a sandbox stops"),
  Command.withExamples([{ command: "castellan sandboxes extend sbx_przh8wmwvnj7s0h78nq1 30m" }])
)

const stop = Command.make(
  "stop",
  { id: sandboxId, account },
  Effect.fnUntraced(function* ({ account, id }) {
    const answer = yield* ask("sandbox.remove", { params: { sandboxId: id }, query: { account_id: account } })
    yield* Output.present(answer, () => `${id} is stopped`)
  })
).pipe(
  Command.withDescription("Stop a sandbox and delete its files"),
  Command.withExamples([{ command: "castellan sandboxes stop sbx_przh8wmwvnj7s0h78nq1" }])
)

export const wholeSandboxes = [create, list, get, run, snapshot, fork, extend, stop] as const
