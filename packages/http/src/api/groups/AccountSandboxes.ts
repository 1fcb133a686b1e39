import type { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import type { Environment } from "@castellan/domain/account/Environment.ts"
import type { EnvironmentView } from "@castellan/domain/account/Environments.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import type { Cursor } from "@castellan/domain/Page.ts"
import { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { remaining, SandboxStatus } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { type DateTime, Option, Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import {
  field,
  forAccount,
  forAccountInBody,
  nextPageOf,
  optional,
  pageOf,
  ProgramText,
  RepositoryUrl,
  success,
  Time
} from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"
import { commandOptions } from "../NewCommand.ts"
import { Statuses } from "../Statuses.ts"

export const NewSandbox = Schema.Struct({
  command: optional(
    ProgramText,
    "The program to run in the new sandbox. It is never interpreted by a shell. Excludes `prompt`. Default: none."
  ),
  ...commandOptions,
  prompt: optional(ProgramText, "The prompt to run the configured agent with. Excludes `command`. Default: none."),
  snapshotId: optional(
    SnapshotId,
    "The snapshot of the account to boot from. Default: the account's saved snapshot, or a fresh image."
  ),
  ...forAccountInBody
})

export const SandboxBody = Schema.Struct({
  sandboxId: field(SandboxName, "The id of the sandbox."),
  sandboxStatus: field(SandboxStatus, "The last known status."),
  timeout: field(Schema.Int, "Milliseconds until the sandbox stops by itself; 0 once it has stopped."),
  createdAt: field(Time, "When it was created, as an ISO 8601 string."),
  runId: field(Schema.optionalKey(RunId), "The run of the command. Present only if this request started one.")
}).annotate({ identifier: "Sandbox", description: "A sandbox of an account." })

const FileTreeEntry = Schema.Struct({
  path: field(Schema.String, "The path, relative to the root of the repository."),
  type: field(Schema.Literals(["blob", "tree"]), "`blob` for a file; `tree` for a directory or a submodule."),
  sha: field(Schema.String, "The id of the git object."),
  size: field(Schema.optionalKey(Schema.Int), "The size in bytes. Only of files.")
}).annotate({ identifier: "FileTreeEntry", description: "An entry of a repository's file tree." })

export const SandboxesResponse = Schema.Struct({
  ...success,
  sandboxes: field(Schema.Array(SandboxBody), "The sandboxes, newest first."),
  snapshot_id: field(Schema.NullOr(Schema.String), "The account's saved snapshot; null if it has none."),
  github_repo: field(Schema.NullOr(Schema.String), "The URL of the account's repository; null if it has none."),
  filetree: field(
    Schema.NullOr(Schema.Array(FileTreeEntry)),
    "The entries of the repository, recursively; null if there is no repository or it can't be read."
  ),
  filetree_truncated: field(
    Schema.optionalKey(Schema.Literal(true)),
    "True if the repository has more entries than `filetree` lists: at most 300,000, or fewer if their paths have more than 32 Mi characters together; at most 5,000 in the response to a create. Absent if all are listed."
  ),
  ...nextPageOf("sandboxes")
}).annotate({ identifier: "SandboxesResponse", description: "Sandboxes of an account, with its repository." })

/** The sandbox in responses, with its remaining time. */
export const presentSandbox = (
  sandbox: AccountSandbox,
  now: DateTime.Utc,
  run: Option.Option<RunId> = Option.none()
): typeof SandboxBody.Type => ({
  sandboxId: sandbox.name,
  sandboxStatus: sandbox.status,
  timeout: remaining(sandbox, now),
  createdAt: sandbox.createdAt,
  ...(Option.isSome(run) ? { runId: run.value } : {})
})

/** Maximum entries of the file tree in the response to a create, which is stored under its idempotency key. */
const listedOnCreate = 5000

/** The first entries of the tree, for the response to a create. */
export const shortTree = (view: EnvironmentView): EnvironmentView => ({
  ...view,
  tree: Option.map(view.tree, (tree) =>
    tree.entries.length <= listedOnCreate
      ? tree
      : { ...tree, entries: tree.entries.slice(0, listedOnCreate), truncated: true }
  )
})

/** A list of sandboxes in its envelope. */
export const respond = (
  sandboxes: ReadonlyArray<typeof SandboxBody.Type>,
  { environment, tree }: EnvironmentView,
  next: Cursor | null
): typeof SandboxesResponse.Type => ({
  status: "success",
  sandboxes,
  snapshot_id: Option.getOrNull(environment)?.snapshot ?? null,
  github_repo: Option.getOrNull(environment)?.repo ?? null,
  filetree: Option.getOrNull(Option.map(tree, ({ entries }) => entries)),
  ...(Option.exists(tree, ({ truncated }) => truncated) ? { filetree_truncated: true } : {}),
  ...(next === null ? {} : { next_cursor: next })
})

const EnvironmentBody = Schema.Struct({
  account_id: field(AccountId, "The id of the account."),
  snapshot_id: field(
    Schema.NullOr(Schema.String),
    "The snapshot that the account's next sandbox boots from; null if there is none."
  ),
  expires_at: field(Schema.NullOr(Time), "When the snapshot expires, as an ISO 8601 string; null without a snapshot."),
  github_repo: field(Schema.NullOr(Schema.String), "The URL of the account's repository; null if it has none."),
  created_at: field(Time, "When this record was created, as an ISO 8601 string.")
}).annotate({ identifier: "AccountSnapshot", description: "The snapshot and repository of an account." })

export const presentEnvironment = (environment: Option.Option<Environment>): typeof EnvironmentBody.Type | null =>
  Option.match(environment, {
    onNone: () => null,
    onSome: ({ account, createdAt, expiresAt, repo, snapshot }) => ({
      account_id: account,
      snapshot_id: snapshot,
      expires_at: expiresAt,
      github_repo: repo,
      created_at: createdAt
    })
  })

const EnvironmentChange = Schema.Struct({
  snapshotId: optional(
    SnapshotId,
    "The snapshot of the account that its next sandbox boots from. Default: the current one is kept."
  ),
  github_repo: optional(
    RepositoryUrl,
    "The account's repository: its own, or a public one. Default: the current one is kept."
  ),
  ...forAccountInBody
})

const ForAccountInBody = Schema.Struct(forAccountInBody)

/** The sandboxes of an account, its saved snapshot and its repository. */
export class AccountSandboxesApi extends HttpApiGroup.make("sandboxes")
  .add(
    HttpApiEndpoint.post("create", "/", {
      payload: NewSandbox,
      success: SandboxesResponse,
      error: [
        Statuses.AccountForbidden,
        Statuses.SnapshotNotFound,
        Statuses.SandboxNotCreated,
        Statuses.SandboxQuotaReached
      ]
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Create a sandbox, and run a command or a prompt in it",
          description:
            "The response does not wait for the command; follow its run with `runs.logs`. `env` and `timeoutMs` need a command or a prompt."
        })
      ),
    HttpApiEndpoint.get("list", "/", {
      query: {
        ...forAccount,
        ...pageOf("sandboxes", 100),
        sandbox_id: field(
          Schema.optionalKey(Schema.String),
          "Lists only the sandbox with this id. The list is empty if the account has no such sandbox."
        )
      },
      success: SandboxesResponse,
      error: [Statuses.AccountForbidden]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "List sandboxes, newest first",
        description: "Never wakes a sandbox. If the provider does not report a status, the last known one is listed."
      })
    ),
    HttpApiEndpoint.patch("change", "/", {
      payload: EnvironmentChange,
      success: Schema.NullOr(EnvironmentBody),
      error: [Statuses.AccountForbidden, Statuses.RepoNotReadable, Statuses.RepoUnavailable, Statuses.SnapshotNotFound]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Set the account's snapshot or repository",
        description: "The response is null if the account has neither."
      })
    ),
    HttpApiEndpoint.delete("clear", "/", {
      query: forAccount,
      payload: ForAccountInBody,
      success: Schema.Struct({
        ...success,
        deleted_snapshot: field(Schema.NullOr(EnvironmentBody), "What was deleted; null if there was nothing.")
      }),
      error: [Statuses.AccountForbidden, Statuses.RepoNotDeleted, Statuses.SandboxUnavailable]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Delete all sandboxes, the snapshot and the repository",
        description:
          "May be repeated. `account_id` may be given in the query, in the body, or with the same value in both."
      })
    ),
    HttpApiEndpoint.post("setup", "/setup", {
      payload: ForAccountInBody,
      success: Schema.Struct({ ...success, runId: field(RunId, "The run of the setup.") }),
      error: [Statuses.AccountForbidden]
    })
      .middleware(Idempotent)
      .annotateMerge(
        OpenApi.annotations({
          summary: "Set up the account: a sandbox, a private repository, and a snapshot of both",
          description:
            "While a setup of the account is running, a second request gets the same run. The repository gets the files of `~/workspace` and nothing else. The rest of the home directory, where agents and tools keep settings and credentials, is never committed; the snapshot contains it. Of the workspace, `node_modules/` and files that are known to hold credentials, such as `.codex/auth.json` and `.netrc`, are left out unless they were added with `git add -f`."
        })
      ),
    HttpApiEndpoint.get("file", "/file", {
      query: {
        ...forAccount,
        path: field(RepoPath, "The path of the file, relative to the root of the repository.")
      },
      success: Schema.Struct({
        ...success,
        content: field(Schema.String, "The content as text, or as base64 if `encoding` says so."),
        encoding: field(Schema.optionalKey(Schema.Literal("base64")), "Present if the file is not text.")
      }),
      error: [
        Statuses.AccountForbidden,
        Statuses.NoRepository,
        Statuses.RepoFileNotFound,
        Statuses.RepoFileTooLarge,
        Statuses.RepoUnavailable
      ]
    }).annotateMerge(
      OpenApi.annotations({
        summary: "Read a file of the account's repository",
        description: "Reads the file as it is on the default branch at the repository host."
      })
    )
  )
  .prefix("/api/sandboxes")
  .annotate(OpenApi.Title, "Account sandboxes") {}
