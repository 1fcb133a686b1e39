/** The API's answers as they come, named for those who show them: types alone, so that no schema is loaded for them. */
import type { Schema } from "effect"
import type { HttpApiEndpoint, HttpApiGroup } from "effect/http-api"
import type { AccountsApi } from "@castellan/http/api/groups/Accounts.ts"
import type { AccountSandboxesApi } from "@castellan/http/api/groups/AccountSandboxes.ts"
import type { AdminsApi } from "@castellan/http/api/groups/Admins.ts"
import type { ApiKeysApi } from "@castellan/http/api/groups/ApiKeys.ts"
import type { AppsApi } from "@castellan/http/api/groups/Apps.ts"
import type { SandboxOperationsApi } from "@castellan/http/api/groups/SandboxOperations.ts"
import type { OrganizationsApi } from "@castellan/http/api/groups/Organizations.ts"
import type { SessionsApi } from "@castellan/http/api/groups/Sessions.ts"
import type { SessionSandboxApi } from "@castellan/http/api/groups/SessionSandbox.ts"
import type { SystemApi } from "@castellan/http/api/groups/System.ts"
import type { TaskRunsApi } from "@castellan/http/api/groups/TaskRuns.ts"

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

export type StartedRun = AnswerOf<typeof AccountSandboxesApi, "setup">
export type RepositoryFile = AnswerOf<typeof AccountSandboxesApi, "file">
export type Cleared = AnswerOf<typeof AccountSandboxesApi, "clear">

export type OneSandbox = AnswerOf<typeof SandboxOperationsApi, "get">
export type Files = AnswerOf<typeof SandboxOperationsApi, "files">
export type WrittenFile = AnswerOf<typeof SandboxOperationsApi, "writeFile">
export type NewSnapshot = AnswerOf<typeof SandboxOperationsApi, "snapshot">

export type Sessions = AnswerOf<typeof SessionsApi, "list">
export type OneSession = AnswerOf<typeof SessionsApi, "get">
export type NewSession = AnswerOf<typeof SessionsApi, "create">
export type OpenedSession = AnswerOf<typeof SessionSandboxApi, "open">
export type SessionStatus = Extract<AnswerOf<typeof SessionSandboxApi, "status">, { readonly lifecycle: unknown }>
export type Reconnected = AnswerOf<typeof SessionSandboxApi, "reconnect">
export type ExtendedSession = AnswerOf<typeof SessionSandboxApi, "extend">
export type AsleepSession = AnswerOf<typeof SessionSandboxApi, "hibernate">

export type AppStatus = Exclude<AnswerOf<typeof SessionSandboxApi, "status">, { readonly lifecycle: unknown }>
export type NewApp = AnswerOf<typeof AppsApi, "create">
export type AppFiles = AnswerOf<typeof AppsApi, "files">
export type AppDiagnosis = AnswerOf<typeof AppsApi, "diagnose">
export type InstalledPackages = AnswerOf<typeof AppsApi, "install">
export type EndedApps = AnswerOf<typeof AppsApi, "kill">

export type { EventBody } from "@castellan/http/api/groups/Events.ts"
