/** `castellan apps`: creates, inspects and deletes web apps. */
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

const app = text("app", "ID", "The app; the account's active app if left out")

const create = Command.make(
  "create",
  {},
  Effect.fnUntraced(function* () {
    const answer = yield* ask("apps.create")
    yield* Output.present(answer, ({ sandboxId, url }) => fields({ app: sandboxId, url }))
  })
).pipe(
  Command.withDescription(
    "Create a web app with its dev server. It becomes the active app; the previous one is deleted"
  ),
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
      fields({ app: sandboxId, running: isAlive ? "yes" : "no", url })
    )
  })
).pipe(
  Command.withDescription("Show whether an app is running, and its URL. Does not wake it"),
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
  Command.withDescription("List the project files of an app"),
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
    if (!answer.json.success) return yield* new RunFailed({ say: "the app has problems" })
  })
).pipe(
  Command.withDescription("Check an app and show its problems; exits with 1 if there are any"),
  Command.withExamples([{ command: "castellan apps diagnose" }])
)

const install = Command.make(
  "install",
  {
    packages: Argument.String("PACKAGE").pipe(
      Argument.withDescription("An npm package, as NAME or NAME@VERSION; VERSION may be a range or a tag"),
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
      Flag.withDescription("Delete all apps of the account"),
      Flag.withDefault(false)
    )
  },
  Effect.fnUntraced(function* ({ all, app }) {
    const active = ask<"sessionSandbox.status", AppStatus>("sessionSandbox.status")
    const sandboxId = all ? undefined : (app ?? (yield* active).json.sandboxId)
    const answer = yield* ask("apps.kill", { body: { sandboxId } })
    yield* Output.present(answer, () => (sandboxId === undefined ? "all apps are deleted" : `${sandboxId} is deleted`))
  })
).pipe(
  Command.withDescription("Delete an app and its files"),
  Command.withExamples([{ command: "castellan apps end" }])
)

export const apps = Command.make("apps").pipe(
  Command.withDescription("Create, inspect and delete web apps, each with a dev server and a preview URL"),
  Command.withExamples([{ command: "castellan apps create" }]),
  Command.withSubcommands([create, status, files, diagnose, install, end])
)
