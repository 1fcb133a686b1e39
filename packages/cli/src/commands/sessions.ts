/** Sessions: one sandbox each, that sleeps and wakes. */
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

const repo = text("repo", "URL", "The repository it works on")

/** The fields that there is something in. */
const known = (record: Record<string, Cell>): Record<string, Cell> =>
  Object.fromEntries(Object.entries(record).filter(([, value]) => value !== null && value !== undefined))

const shown = ({ session }: Pick<ResponseOf<"sessions.get">, "session">): string =>
  fields({
    session: session.id,
    title: session.title,
    status: session.status,
    ...known({
      repository: session.repoUrl,
      organization: session.organizationId,
      branch: session.branch,
      sandbox: session.sandboxId,
      state: session.lifecycleState,
      note: session.lifecycleError
    }),
    created: session.createdAt
  })

/** How far a time of the lifecycle is away, by the server's clock. */
const until = (
  at: number | null | undefined,
  { serverTime }: ResponseOf<"sessionSandbox.reconnect">["lifecycle"]
): string | undefined => (at === null || at === undefined ? undefined : span(Math.max(0, at - serverTime)))

/** Whether opening brings files back; no question while the sandbox runs. */
const kept = (status: string, hasSnapshot: boolean): string | undefined =>
  status === "active" || status === "connected" ? undefined : hasSnapshot ? "yes" : "no"

const create = Command.make(
  "create",
  {
    title: text("title", "TEXT", "What to call it"),
    repo,
    org: text("org", "ID", "The organization it works for, of which you are a member")
  },
  Effect.fnUntraced(function* ({ org, repo, title }) {
    const body = { title, repoUrl: repo, organizationId: org }
    const answer = yield* ask("sessions.create", { body })
    yield* Output.present(answer, shown)
  })
).pipe(
  Command.withDescription("Begin a session; it has no sandbox until it is opened"),
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
    id: id("ID", "The session's id; a sandbox for once if left out").pipe(Argument.optional),
    repo: text("repo", "URL", "The repository it works on; the session's own if left out")
  },
  Effect.fnUntraced(function* ({ id, repo }) {
    const sessionId = Option.getOrUndefined(id)
    if (sessionId === undefined && repo === undefined) {
      return yield* new UsageRefused({ say: "say which session to open, or --repo URL for a sandbox for once" })
    }
    const body = { sessionId, repoUrl: repo ?? (yield* repoOf(sessionId!)) }
    const answer = yield* ask("sessionSandbox.open", { body })
    yield* Output.present(answer, ({ currentBranch, mode, timeout, timing }) =>
      fields({ branch: currentBranch, "time left": span(timeout), ready: `${timing.readyMs} ms`, provider: mode })
    )
  })
).pipe(
  Command.withDescription(
    "Open a session: its sandbox, running, with its repository; made, woken, or the one that runs"
  ),
  Command.withShortDescription("Open a session: its sandbox, running"),
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
        ...known({
          "files kept": kept(status, hasSnapshot),
          "sleeps in": until(lifecycle.hibernateAfter, lifecycle),
          "time left": until(lifecycle.sandboxExpiresAt, lifecycle)
        }),
        version: lifecycleVersion
      })
    )
  })
).pipe(
  Command.withDescription("Show what is known of a session's sandbox, without asking its provider"),
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
        ...known({ "files kept": kept(status, hasSnapshot), "time left": until(expiresAt, lifecycle) })
      })
    )
  })
).pipe(
  Command.withDescription("Ask the provider whether a session's sandbox is still there; wakes nothing"),
  Command.withExamples([{ command: `castellan sessions reconnect ${anId}` }])
)

const activity = Command.make(
  "activity",
  { id: sessionId },
  Effect.fnUntraced(function* ({ id }) {
    const answer = yield* ask("sessionSandbox.activity", { body: { sessionId: id } })
    yield* Output.present(answer, () => `${id} is in use`)
  })
).pipe(
  Command.withDescription("Say that a session is in use, so that it does not go to sleep"),
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
  Command.withDescription("Give a session's sandbox more time"),
  Command.withExamples([{ command: `castellan sessions extend ${anId} 30m` }])
)

const sleep = Command.make(
  "sleep",
  { id: sessionId },
  Effect.fnUntraced(function* ({ id }) {
    const answer = yield* ask("sessionSandbox.hibernate", { query: { sessionId: id } })
    yield* Output.present(answer, ({ alreadyStopped }) =>
      alreadyStopped === true ? `${id} was not running` : `${id} sleeps`
    )
  })
).pipe(
  Command.withDescription("Put a session's sandbox to sleep now; its files are kept"),
  Command.withExamples([{ command: `castellan sessions sleep ${anId}` }])
)

const change = Effect.fnUntraced(function* (id: string, body: Record<string, unknown>) {
  yield* Output.present(yield* ask("sessions.change", { params: { id }, body }), shown)
})

const archive = Command.make("archive", { id: sessionId }, ({ id }) => change(id, { status: "archived" })).pipe(
  Command.withDescription("Put a session away: its sandbox stops, its files are kept"),
  Command.withExamples([{ command: `castellan sessions archive ${anId}` }])
)

const unarchive = Command.make("unarchive", { id: sessionId }, ({ id }) => change(id, { status: "running" })).pipe(
  Command.withDescription("Take out a session that was put away; it wakes when it is opened"),
  Command.withExamples([{ command: `castellan sessions unarchive ${anId}` }])
)

const rename = Command.make(
  "rename",
  { id: sessionId, title: Argument.String("TITLE").pipe(Argument.withDescription("What to call it")) },
  ({ id, title }) => change(id, { title })
).pipe(
  Command.withDescription("Give a session another title"),
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
          ? Output.say(`wake it with: castellan sessions open ${id}`)
          : Effect.void
      )
    )
    if (noFollow || (yield* Output.isForProgram)) return yield* Output.present(answer, ({ runId }) => runId)
    yield* followed({ run: answer.json.runId, account: undefined })
  })
).pipe(
  Command.withDescription(
    "Run a command in a session's sandbox, which stays awake for it; print what it prints, exit as it exits"
  ),
  Command.withShortDescription("Run a command in a session's sandbox"),
  Command.withExamples([{ command: `castellan sessions run ${anId} -- npm test` }])
)

export const sessions = Command.make("sessions").pipe(
  Command.withDescription("Sessions: one sandbox each, with a repository, that sleeps when nobody uses it"),
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
