/** Commands for an account's repository, and the command that deletes all that an account has. */
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Base64 from "effect/encoding/Base64"
import * as Stdio from "effect/Stdio"
import { ask } from "../client/Client.ts"
import { RunFailed, UsageRefused } from "../client/Failure.ts"
import { account, noFollow } from "../flags.ts"
import * as Output from "../output/Output.ts"
import { followedSetup } from "../setup.ts"
import { fields, plain } from "../output/Table.ts"

const setup = Command.make(
  "setup",
  { account, noFollow },
  Effect.fnUntraced(function* ({ account, noFollow }) {
    const body = { account_id: account }
    const answer = yield* ask("sandboxes.setup", { body })
    if (noFollow || (yield* Output.isForProgram)) return yield* Output.present(answer, ({ runId }) => runId)
    yield* followedSetup({ run: answer.json.runId, account })
  })
).pipe(
  Command.withDescription(
    "Create the account's repository from the files of ~/workspace, and its snapshot, and show the steps"
  ),
  Command.withShortDescription("Create the account's repository and snapshot"),
  Command.withExamples([{ command: "castellan sandboxes setup" }])
)

const tree = Command.make(
  "tree",
  { account },
  Effect.fnUntraced(function* ({ account }) {
    const query = { account_id: account, limit: 1 }
    const answer = yield* ask("sandboxes.list", { query })
    const { filetree, filetree_truncated: isTruncated } = answer.json
    yield* Output.present(answer, () => (filetree ?? []).map(({ path, type }) => lineOf(path, type)).join(""))
    if (filetree === null && !(yield* Output.isForProgram)) {
      yield* Output.say(
        "no files to show: the account has no repository (create one with: castellan sandboxes setup), or it is unavailable"
      )
    }
    if (isTruncated === true) yield* Output.say("the list is truncated: the repository has more files")
  })
).pipe(
  Command.withDescription("List the files of the account's repository"),
  Command.withExamples([{ command: "castellan sandboxes tree" }])
)

const lineOf = (path: string, type: string) => `${plain(path)}${type === "tree" ? "/" : ""}\n`

const cat = Command.make(
  "cat",
  { path: Argument.String("PATH").pipe(Argument.withDescription("The file's path in the repository")), account },
  Effect.fnUntraced(function* ({ account, path }) {
    const query = { path, account_id: account }
    const answer = yield* ask("sandboxes.file", { query })
    if (yield* Output.isForProgram) return yield* Output.present(answer, () => "")
    const { content, encoding } = answer.json
    if (encoding !== "base64") return yield* Output.print(content)
    const unreadable = new RunFailed({ say: `the server sent ${path} in an invalid encoding` })
    yield* Output.print(yield* Effect.mapError(Effect.fromResult(Base64.decode(content)), () => unreadable))
  })
).pipe(
  Command.withDescription("Print a file of the account's repository"),
  Command.withExamples([{ command: "castellan sandboxes cat README.md" }])
)

const confirm = Effect.fnUntraced(function* (whose: string) {
  if (!(yield* (yield* Stdio.Stdio).stdinIsTerminal)) {
    return yield* new UsageRefused({ say: "clear deletes permanently: confirm with --yes, or run it on a terminal" })
  }
  return yield* Prompt.run(
    Prompt.Confirm({ message: `Stop all sandboxes of ${whose}, and delete its snapshot and its repository?` })
  )
})

const clear = Command.make(
  "clear",
  {
    yes: Flag.Boolean("yes").pipe(
      Flag.withAlias("y"),
      Flag.withoutNegation,
      Flag.withDescription("Don't ask for confirmation"),
      Flag.withDefault(false)
    ),
    account
  },
  Effect.fnUntraced(function* ({ account, yes }) {
    if (!yes && !(yield* confirm(account ?? "your account"))) return yield* Output.say("nothing was deleted")
    const answer = yield* ask("sandboxes.clear", { body: { account_id: account } })
    yield* Output.present(answer, ({ deleted_snapshot: row }) =>
      row === null
        ? "all sandboxes are stopped; there was no snapshot and no repository\n"
        : fields({ "deleted snapshot": row.snapshot_id, "deleted repository": row.github_repo })
    )
  })
).pipe(
  Command.withDescription("Stop all sandboxes of the account, and delete its snapshot and its repository"),
  Command.withExamples([{ command: "castellan sandboxes clear --yes" }])
)

export const repository = [setup, tree, cat, clear] as const
