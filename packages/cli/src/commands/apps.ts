/** Web apps under construction. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Effect from "effect/Effect"
import { ask } from "../client/Client.ts"
import { RunFailed } from "../client/Failure.ts"
import { text } from "../flags.ts"
import type { AppStatus } from "../client/Operations.ts"
import * as Output from "../output/Output.ts"
import { filesAtOnce, orNone, pages } from "../client/pages.ts"
import { fields, span, table } from "../output/Table.ts"

const app = text("app", "ID", "The app, where it is not the active one")

const create = Command.make(
  "create",
  {},
  Effect.fnUntraced(function* () {
    const answer = yield* ask("apps.create")
    yield* Output.present(answer, ({ sandboxId, url }) => fields({ app: sandboxId, url }))
  })
).pipe(
  Command.withDescription("Make a web app with its dev server; the active one before it ends"),
  Command.withExamples([{ command: "castellan apps create" }])
)

const status = Command.make(
  "status",
  { app },
  Effect.fnUntraced(function* ({ app }) {
    const answer = yield* ask<"sessionSandbox.status", AppStatus>("sessionSandbox.status", {
      query: { sandboxId: app }
    })
    yield* Output.present(answer, ({ isAlive, sandboxId, url }) =>
      fields({ app: sandboxId, runs: isAlive ? "yes" : "no", url })
    )
  })
).pipe(
  Command.withDescription("Show whether an app runs, and where; wakes nothing"),
  Command.withExamples([{ command: "castellan apps status" }])
)

const files = Command.make(
  "files",
  { app },
  Effect.fnUntraced(function* ({ app }) {
    const answer = yield* pages("apps.files", "files", { query: { sandboxId: app }, ...filesAtOnce })
    yield* Output.present(answer, ({ files }) => files.map((file) => `${file}\n`).join(""))
    yield* orNone("files", answer.json.files)
  })
).pipe(
  Command.withDescription("List the files of an app's project"),
  Command.withExamples([{ command: "castellan apps files" }])
)

const diagnose = Command.make(
  "diagnose",
  { app },
  Effect.fnUntraced(function* ({ app }) {
    const answer = yield* ask("apps.diagnose", { body: { sandboxId: app } })
    yield* Output.present(
      answer,
      ({ checks, output }) =>
        `${table(
          ["CHECK", "OK", "TOOK"],
          checks.map(({ durationMs, name, ok }) => [name.replaceAll("_", " "), ok ? "yes" : "no", span(durationMs)])
        )}${output}`
    )
    if (!answer.json.success) return yield* new RunFailed({ say: "something is wrong with the app" })
  })
).pipe(
  Command.withDescription("Find out what is wrong with an app"),
  Command.withExamples([{ command: "castellan apps diagnose" }])
)

const install = Command.make(
  "install",
  {
    packages: Argument.String("PACKAGE").pipe(
      Argument.withDescription("By name, with a version, range or tag after @ if one is meant"),
      Argument.atLeast(1)
    ),
    app
  },
  Effect.fnUntraced(function* ({ app, packages }) {
    const body = { packages, sandboxId: app }
    const answer = yield* ask("apps.install", { body })
    yield* Output.present(answer, ({ versions }) => fields(versions))
  })
).pipe(
  Command.withDescription("Install npm packages in an app"),
  Command.withExamples([{ command: "castellan apps install clsx date-fns@^4" }])
)

const end = Command.make(
  "end",
  {
    app,
    all: Flag.Boolean("all").pipe(
      Flag.withoutNegation,
      Flag.withDescription("All apps of the account"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ all, app }) {
    const active = ask<"sessionSandbox.status", AppStatus>("sessionSandbox.status")
    const sandboxId = all ? undefined : (app ?? (yield* active).json.sandboxId)
    const answer = yield* ask("apps.kill", { body: { sandboxId } })
    yield* Output.present(answer, () => (sandboxId === undefined ? "all apps have ended" : `${sandboxId} has ended`))
  })
).pipe(
  Command.withDescription("End an app for good, with its files"),
  Command.withExamples([{ command: "castellan apps end" }])
)

export const apps = Command.make("apps").pipe(
  Command.withDescription("Web apps under construction, each with its dev server and a page to look at"),
  Command.withExamples([{ command: "castellan apps create" }]),
  Command.withSubcommands([create, status, files, diagnose, install, end])
)
