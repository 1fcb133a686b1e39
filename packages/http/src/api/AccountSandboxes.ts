import type { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { Cursor, type PageOf } from "@castellan/domain/Page.ts"
import { Argument } from "@castellan/domain/sandbox/Command.ts"
import { remaining, SandboxStatus } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { type DateTime, Option, Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authenticated } from "./Authenticated.ts"
import { absent, forAccount, page, Text, Time } from "./Fields.ts"
import { Idempotent } from "./Idempotent.ts"
import { Statuses } from "./Statuses.ts"

const withoutNul = Schema.isPattern(/^[^\0]*$/, { message: "must not contain a NUL character" })

export const NewSandbox = Schema.Struct({
  /** The program to run; nothing is run if it and `prompt` are left out. */
  command: absent(Text.check(withoutNul)),
  args: absent(Schema.Array(Argument)),
  /** Where to run it; the sandbox's home if left out. */
  cwd: absent(Text.check(withoutNul)),
  /** Given to the agent in place of a command. */
  prompt: absent(Text.check(withoutNul)),
  account_id: absent(AccountId)
})

const Sandbox = Schema.Struct({
  sandboxId: SandboxName,
  sandboxStatus: SandboxStatus,
  /** Milliseconds until it stops by itself. */
  timeout: Schema.Int,
  createdAt: Time,
  /** Only where this request started a command. */
  runId: Schema.optionalKey(RunId)
}).annotate({ identifier: "Sandbox" })

const FileTreeEntry = Schema.Struct({
  path: Schema.String,
  type: Schema.Literals(["blob", "tree"]),
  sha: Schema.String,
  size: Schema.optionalKey(Schema.Int)
}).annotate({ identifier: "FileTreeEntry" })

export const SandboxesResponse = Schema.Struct({
  status: Schema.Literal("success"),
  sandboxes: Schema.Array(Sandbox),
  snapshot_id: Schema.NullOr(Schema.String),
  github_repo: Schema.NullOr(Schema.String),
  filetree: Schema.NullOr(Schema.Array(FileTreeEntry)),
  /** Where the list goes on; left out on its last page. */
  next_cursor: Schema.optionalKey(Cursor)
}).annotate({ identifier: "SandboxesResponse" })

/** The page's own envelope around a list of sandboxes, each with the time it has left. */
export const respond = (
  list: PageOf<AccountSandbox>,
  now: DateTime.Utc,
  run: Option.Option<RunId> = Option.none()
): typeof SandboxesResponse.Type => ({
  status: "success",
  sandboxes: list.rows.map((sandbox) => ({
    sandboxId: sandbox.name,
    sandboxStatus: sandbox.status,
    timeout: remaining(sandbox, now),
    createdAt: sandbox.createdAt,
    ...(Option.isSome(run) ? { runId: run.value } : {})
  })),
  snapshot_id: null,
  github_repo: null,
  filetree: null,
  ...(list.next === null ? {} : { next_cursor: list.next })
})

/** The sandboxes of an account. */
export class AccountSandboxesApi extends HttpApiGroup.make("sandboxes")
  .add(
    HttpApiEndpoint.post("create", "/", {
      payload: NewSandbox,
      success: SandboxesResponse,
      error: [Statuses.RequestRefused, Statuses.AccountHidden, Statuses.SandboxNotCreated]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Create a sandbox, and run a command or a prompt in it"),
    HttpApiEndpoint.get("list", "/", {
      query: { ...forAccount, ...page, sandbox_id: Schema.optionalKey(Schema.String) },
      success: SandboxesResponse,
      error: [Statuses.AccountHidden]
    }).annotate(OpenApi.Summary, "List sandboxes, newest first")
  )
  .middleware(Authenticated)
  .prefix("/api/sandboxes")
  .annotate(OpenApi.Title, "Account sandboxes") {}
