/** The API's answers as they come, named for those who show them: types alone, so that no schema is loaded for them. */
import type { Schema } from "effect"
import type { HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import type { AccountsApi } from "../api/Accounts.ts"
import type { AccountSandboxesApi } from "../api/AccountSandboxes.ts"
import type { AdminsApi } from "../api/Admins.ts"
import type { ApiKeysApi } from "../api/ApiKeys.ts"
import type { OrganizationsApi } from "../api/Organizations.ts"
import type { SystemApi } from "../api/System.ts"
import type { TaskRunsApi } from "../api/TaskRuns.ts"

type SuccessOf<Group, Endpoint extends string> = HttpApiEndpoint.Success<
  HttpApiEndpoint.WithIdentifier<HttpApiGroup.Endpoints<Group>, Endpoint>
>

/** What an endpoint of a group answers, as JSON has it. */
type AnswerOf<Group, Endpoint extends string> =
  SuccessOf<Group, Endpoint> extends Schema.toCodecJson<infer Answer> ? Answer["Encoded"] : never

export type Ready = AnswerOf<typeof SystemApi, "ready">

export type AccountTotals = AnswerOf<typeof AdminsApi, "sandboxes">

export type NewAccount = AnswerOf<typeof AccountsApi, "create">

export type NewOrganization = AnswerOf<typeof OrganizationsApi, "create">
export type Organizations = AnswerOf<typeof OrganizationsApi, "list">
export type Members = AnswerOf<typeof OrganizationsApi, "members">
export type OneMember = AnswerOf<typeof OrganizationsApi, "invite">

export type IssuedKey = AnswerOf<typeof ApiKeysApi, "issue">
export type Keys = AnswerOf<typeof ApiKeysApi, "list">

export type Sandboxes = AnswerOf<typeof AccountSandboxesApi, "list">
export type Sandbox = Sandboxes["sandboxes"][number]

export type Runs = AnswerOf<typeof TaskRunsApi, "list">
export type Run = Runs["runs"][number]
export type CanceledRun = AnswerOf<typeof TaskRunsApi, "cancel">

export interface StartedRun {
  readonly runId: string
}

export interface OneSandbox {
  readonly sandbox: Sandbox
}

export interface Files {
  readonly files: ReadonlyArray<{
    readonly path: string
    readonly type: string
    readonly size: number | null
    readonly modifiedAt: string | number | null
  }>
}

export interface WrittenFile {
  readonly path: string
  readonly size: number
}

export interface NewSnapshot {
  readonly snapshotId: string
  readonly expiresAt: string | number | null
  readonly stopped: boolean
}

export interface RepositoryFile {
  readonly content: string
  readonly encoding?: "base64"
}

export interface Cleared {
  readonly deleted_snapshot: { readonly snapshot_id?: string | null; readonly github_repo?: string | null } | null
}
