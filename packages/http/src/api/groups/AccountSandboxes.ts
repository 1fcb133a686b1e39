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
import { absent, forAccount, cursorOf, pageOf, RepositoryUrl, ProgramText, Time } from "../Fields.ts"
import { Idempotent } from "../Idempotent.ts"

import { commandOptions } from "../NewCommand.ts"
import { Statuses } from "../Statuses.ts"

export const NewSandbox = Schema.Struct({
  /** The program to run; nothing is run if it and `prompt` are left out. */
  command: absent(ProgramText),
  ...commandOptions,
  /** Given to the agent in place of a command. */
  prompt: absent(ProgramText),
  /** A snapshot of the account to boot from; the account's saved one if left out. */
  snapshotId: absent(SnapshotId),
  account_id: absent(AccountId)
})

export const SandboxBody = Schema.Struct({
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
  sandboxes: Schema.Array(SandboxBody),
  snapshot_id: Schema.NullOr(Schema.String),
  github_repo: Schema.NullOr(Schema.String),
  filetree: Schema.NullOr(Schema.Array(FileTreeEntry)),
  /**
   * True where the repository has entries that are not listed. A list has 300,000 entries at most, and fewer where their
   * paths have more than 32 Mi characters together; the answer to a create has 5,000. Left out where all are listed.
   */
  filetree_truncated: Schema.optionalKey(Schema.Literal(true)),
  /** Where the list goes on; left out on its last page. */
  next_cursor: Schema.optionalKey(cursorOf("sandboxes"))
}).annotate({ identifier: "SandboxesResponse" })

/** A sandbox with the time it has left. */
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

/** Entries of a repository's tree that are in the answer to a create, which is kept for its idempotency key. */
const listedOnCreate = 5000

/** The first entries of the tree, for an answer to a create. */
export const shortTree = (view: EnvironmentView): EnvironmentView => ({
  ...view,
  tree: Option.map(view.tree, (tree) =>
    tree.entries.length <= listedOnCreate
      ? tree
      : { ...tree, entries: tree.entries.slice(0, listedOnCreate), truncated: true }
  )
})

/** The page's own envelope around a list of sandboxes. */
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
  account_id: AccountId,
  snapshot_id: Schema.NullOr(Schema.String),
  expires_at: Schema.NullOr(Time),
  github_repo: Schema.NullOr(Schema.String),
  created_at: Time
}).annotate({ identifier: "AccountSnapshot" })

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
  /** A snapshot of the account; its next sandbox boots from it. */
  snapshotId: absent(SnapshotId),
  /** The account's repository: its own, or one that anyone may read. */
  github_repo: absent(RepositoryUrl),
  account_id: absent(AccountId)
})

const ForAccountInBody = Schema.Struct({ account_id: absent(AccountId) })

/** The sandboxes of an account. */
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
      .annotate(OpenApi.Summary, "Create a sandbox, and run a command or a prompt in it"),
    HttpApiEndpoint.get("list", "/", {
      query: { ...forAccount, ...pageOf("sandboxes"), sandbox_id: Schema.optionalKey(Schema.String) },
      success: SandboxesResponse,
      error: [Statuses.AccountForbidden]
    }).annotate(OpenApi.Summary, "List sandboxes, newest first"),
    HttpApiEndpoint.patch("change", "/", {
      payload: EnvironmentChange,
      success: Schema.NullOr(EnvironmentBody),
      error: [Statuses.AccountForbidden, Statuses.RepoNotReadable, Statuses.RepoUnavailable, Statuses.SnapshotNotFound]
    }).annotate(OpenApi.Summary, "Save the snapshot that the next sandbox boots from, or name the repository"),
    HttpApiEndpoint.delete("clear", "/", {
      query: forAccount,
      payload: ForAccountInBody,
      success: Schema.Struct({ status: Schema.Literal("success"), deleted_snapshot: Schema.NullOr(EnvironmentBody) }),
      error: [Statuses.AccountForbidden, Statuses.RepoNotDeleted, Statuses.SandboxUnavailable]
    }).annotate(OpenApi.Summary, "End all sandboxes, and delete the snapshot and the repository"),
    HttpApiEndpoint.post("setup", "/setup", {
      payload: ForAccountInBody,
      success: Schema.Struct({ status: Schema.Literal("success"), runId: RunId }),
      error: [Statuses.AccountForbidden]
    })
      .middleware(Idempotent)
      .annotate(OpenApi.Summary, "Set up the account: a sandbox, a private repository, and a snapshot of both")
      .annotate(
        OpenApi.Description,
        "The repository gets the files of `~/workspace` in the sandbox and nothing else. The rest of the home directory, where agents and tools keep settings and credentials, is never committed; the snapshot has it. Of the workspace, `node_modules/` and files that are known to hold credentials, such as `.codex/auth.json` and `.netrc`, are left out unless they were added with `git add -f`."
      ),
    HttpApiEndpoint.get("file", "/file", {
      query: { ...forAccount, path: RepoPath },
      success: Schema.Struct({
        status: Schema.Literal("success"),
        content: Schema.String,
        /** There where the file is not text. */
        encoding: Schema.optionalKey(Schema.Literal("base64"))
      }),
      error: [
        Statuses.AccountForbidden,
        Statuses.NoRepository,
        Statuses.RepoFileNotFound,
        Statuses.RepoFileTooLarge,
        Statuses.RepoUnavailable
      ]
    }).annotate(OpenApi.Summary, "Read a file of the account's repository")
  )
  .prefix("/api/sandboxes")
  .annotate(OpenApi.Title, "Account sandboxes") {}
