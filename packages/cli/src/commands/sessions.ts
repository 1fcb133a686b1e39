/** `castellan sessions`: creates, opens, hibernates and archives sessions. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { ask } from "../client/Client.ts"
import { UsageRefused } from "../client/Failure.ts"
import { cwdInTree, duration, id, millisOf, noFollow, page, requiredCommandLine, text } from "../flags.ts"
import { followed } from "../output/follow.ts"
import * as Output from "../output/Output.ts"
import { orNone, pages } from "../client/pages.ts"
import { type Cell, fields, span, table } from "../output/Table.ts"
import type { ResponseOf, SessionStatus, StartedRun } from "../client/Operations.ts"

const anId = "3f0c9a52-6d1e-4b7a-9a64-0b7f5f6f2c11"

const sessionId = id("ID", "The session's id")

const repo = text("repo", "URL", "The session's repository")

/** The fields that have a value. */
const withValues = (record: Record<string, Cell>): Record<string, Cell> =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null && value !== undefined))

const shown = ({ session }: Pick<ResponseOf<"sessions.get">, "session">): string =>
  fields({
    session: session.id,
    title: session.title,
    status: session.status,
    ...withValues({
      repository: session.repoUrl,
      organization: session.organizationId,
      branch: session.branch,
      sandbox: session.sandboxId,
      state: session.lifecycleState,
      note: session.lifecycleError
    }),
    created: session.createdAt
  })

/** The time until a lifecycle timestamp, by the server's clock. */
const until = (
  at: number | null | undefined,
  { serverTime }: ResponseOf<"sessionSandbox.reconnect">["lifecycle"]
): string | undefined => (at === null || at === undefined ? undefined : span(Math.max(0, at - serverTime)))

/** Whether opening the session restores its files; undefined while its sandbox is running. */
const kept = (status: string, hasSnapshot: boolean): string | undefined =>
  status === "active" || status === "connected" ? undefined : hasSnapshot ? "yes" : "no"

const create = Command.make(
  "create",
  {
    title: text("title", "TEXT", "The session's title"),
    repo,
    org: text("org", "ID", "An organization of yours that the session belongs to")
  },
  Effect.fnUntraced(function* ({ org, repo, title }) {
    const body = { title, repoUrl: repo, organizationId: org }
    const answer = yield* ask("sessions.create", { body })
    yield* Output.present(answer, shown)
  })
).pipe(
  Command.withDescription("Create a session. It has no sandbox until it is opened"),
  Command.withExamples([
    { command: "castellan sessions create --title 'Fix the build' --repo https://github.com/acme/site" }
  ])
)

const list = Command.make(
  "list",
  page,
  Effect.fnUntraced(function* ({ all, limit }) {
    const answer = yield* pages("sessions.list", "sessions", { query: {}, limit, all })
    yield* Output.present(answer, ({ sessions }) =>
      table(
        ["SESSION", "STATUS", "SANDBOX", "CREATED", "TITLE"],
        sessions.map((one) => [one.id, one.status, one.lifecycleState, one.createdAt, one.title])
      )
    )
    yield* orNone("sessions", answer.json.sessions)
  })
).pipe(
  Command.withDescription("List your sessions, newest first"),
  Command.withExamples([{ command: "castellan sessions list --all" }])
)

const get = Command.make(
  "get",
  { id: sessionId },
  Effect.fnUntraced(function* ({ id }) {
    yield* Output.present(yield* ask("sessions.get", { params: { id } }), shown)
  })
).pipe(Command.withDescription("Show a session"), Command.withExamples([{ command: `castellan sessions get ${anId}` }]))

const repoOf = Effect.fnUntraced(function* (id: string) {
  const { session } = (yield* ask("sessions.get", { params: { id } })).json
  return session.repoUrl ?? (yield* new UsageRefused({ say: `${id} has no repository yet: open it with --repo URL` }))
})

const open = Command.make(
  "open",
  {
    id: id("ID", "The session's id; a temporary sandbox without a session if left out").pipe(Argument.optional),
    repo: text("repo", "URL", "The repository; that of the session if left out")
  },
  Effect.fnUntraced(function* ({ id, repo }) {
    const sessionId = Option.getOrUndefined(id)
    if (sessionId === undefined && repo === undefined) {
      return yield* new UsageRefused({
        say: "name a session to open, or use --repo URL to open a temporary sandbox without a session"
      })
    }
    const body = { sessionId, repoUrl: repo ?? (yield* repoOf(sessionId!)) }
    const answer = yield* ask("sessionSandbox.open", { body })
    yield* Output.present(answer, ({ currentBranch, mode, timeout, timing }) =>
      fields({ branch: currentBranch, "time left": span(timeout), ready: `${timing.readyMs} ms`, provider: mode })
    )
  })
).pipe(
  Command.withDescription(
    "Open a session: create or resume its sandbox with its repository, unless it is running already"
  ),
  Command.withShortDescription("Open a session: create or resume its sandbox"),
  Command.withExamples([
    { command: `castellan sessions open ${anId} --repo https://github.com/acme/site` },
    { command: "castellan sessions open --repo https://github.com/acme/site" }
  ])
)

const status = Command.make(
  "status",
  { id: sessionId },
  Effect.fnUntraced(function* ({ id }) {
    const answer = yield* ask<"sessionSandbox.status", SessionStatus>("sessionSandbox.status", {
      query: { sessionId: id }
    })
    yield* Output.present(answer, ({ hasSnapshot, lifecycle, lifecycleVersion, status }) =>
      fields({
        status,
        state: lifecycle.state,
        ...withValues({
          "files kept": kept(status, hasSnapshot),
          "hibernates in": until(lifecycle.hibernateAfter, lifecycle),
          "time left": until(lifecycle.sandboxExpiresAt, lifecycle)
        }),
        version: lifecycleVersion
      })
    )
  })
).pipe(
  Command.withDescription("Show the recorded state of a session's sandbox, without asking the provider"),
  Command.withExamples([{ command: `castellan sessions status ${anId}` }])
)

const reconnect = Command.make(
  "reconnect",
  { id: sessionId },
  Effect.fnUntraced(function* ({ id }) {
    const answer = yield* ask("sessionSandbox.reconnect", { query: { sessionId: id } })
    yield* Output.present(answer, ({ expiresAt, hasSnapshot, lifecycle, status }) =>
      fields({
        status,
        state: lifecycle.state,
        ...withValues({ "files kept": kept(status, hasSnapshot), "time left": until(expiresAt, lifecycle) })
      })
    )
  })
).pipe(
  Command.withDescription("Ask the provider whether a session's sandbox is still running. Does not resume it"),
  Command.withExamples([{ command: `castellan sessions reconnect ${anId}` }])
)

const activity = Command.make(
  "activity",
  { id: sessionId },
  Effect.fnUntraced(function* ({ id }) {
    const answer = yield* ask("sessionSandbox.activity", { body: { sessionId: id } })
    yield* Output.present(answer, () => `${id} is marked as in use`)
  })
).pipe(
  Command.withDescription("Mark a session as in use, which postpones hibernation"),
  Command.withExamples([{ command: `castellan sessions activity ${anId}` }])
)

const extend = Command.make(
  "extend",
  { id: sessionId, duration },
  Effect.fnUntraced(function* ({ duration, id }) {
    const body = { sessionId: id, ms: millisOf(duration) }
    const answer = yield* ask("sessionSandbox.extend", { body })
    yield* Output.present(answer, ({ expiresAt, extendedBy }) =>
      fields({ session: id, "extended by": span(extendedBy), expires: new Date(expiresAt).toISOString() })
    )
  })
).pipe(
  Command.withDescription("Extend the time until a session's sandbox stops"),
  Command.withExamples([{ command: `castellan sessions extend ${anId} 30m` }])
)

const sleep = Command.make(
  "sleep",
  { id: sessionId },
  Effect.fnUntraced(function* ({ id }) {
    const answer = yield* ask("sessionSandbox.hibernate", { query: { sessionId: id } })
    yield* Output.present(answer, ({ alreadyStopped }) =>
      alreadyStopped === true ? `${id} was not running` : `${id} is hibernated`
    )
  })
).pipe(
  Command.withDescription("Hibernate a session now: its sandbox stops, its files are kept"),
  Command.withExamples([{ command: `castellan sessions sleep ${anId}` }])
)

const change = Effect.fnUntraced(function* (id: string, body: Record<string, unknown>) {
  yield* Output.present(yield* ask("sessions.change", { params: { id }, body }), shown)
})

const archive = Command.make("archive", { id: sessionId }, ({ id }) => change(id, { status: "archived" })).pipe(
  Command.withDescription("Archive a session: its sandbox stops, its files are kept"),
  Command.withExamples([{ command: `castellan sessions archive ${anId}` }])
)

const unarchive = Command.make("unarchive", { id: sessionId }, ({ id }) => change(id, { status: "running" })).pipe(
  Command.withDescription("Restore an archived session; opening it resumes its sandbox"),
  Command.withExamples([{ command: `castellan sessions unarchive ${anId}` }])
)

const rename = Command.make(
  "rename",
  { id: sessionId, title: Argument.String("TITLE").pipe(Argument.withDescription("The session's title")) },
  ({ id, title }) => change(id, { title })
).pipe(
  Command.withDescription("Change the title of a session"),
  Command.withExamples([{ command: `castellan sessions rename ${anId} 'Fix the build'` }])
)

const run = Command.make(
  "run",
  { id: sessionId, command: requiredCommandLine, cwd: cwdInTree, noFollow },
  Effect.fnUntraced(function* ({ command: [command, ...args], cwd, id, noFollow }) {
    const body = { command, args, cwd }
    const answer = yield* ask<"sessions.run", StartedRun<"sessions.run">>("sessions.run", {
      params: { id },
      body
    }).pipe(
      Effect.tapError((failure) =>
        failure._tag === "ApiRefused" && failure.code === "sandbox_not_running"
          ? Output.say(`resume it with: castellan sessions open ${id}`)
          : Effect.void
      )
    )
    if (noFollow || (yield* Output.isForProgram)) return yield* Output.present(answer, ({ runId }) => runId)
    yield* followed({ run: answer.json.runId, account: undefined })
  })
).pipe(
  Command.withDescription(
    "Run a command in a session's sandbox, print its output and exit with its exit code. The session does not hibernate while it runs"
  ),
  Command.withShortDescription("Run a command in a session's sandbox"),
  Command.withExamples([{ command: `castellan sessions run ${anId} -- npm test` }])
)

export const sessions = Command.make("sessions").pipe(
  Command.withDescription("Manage sessions: each has a sandbox with a repository, which hibernates when it is idle"),
  Command.withExamples([{ command: `castellan sessions open ${anId}` }]),
  Command.withSubcommands([
    create,
    list,
    get,
    open,
    status,
    reconnect,
    activity,
    extend,
    sleep,
    archive,
    unarchive,
    rename,
    run
  ])
)
