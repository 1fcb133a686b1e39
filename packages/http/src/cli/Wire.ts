/** The API's answers as far as people are shown them. */
import type { SandboxesResponse } from "../api/AccountSandboxes.ts"
import type { Run as RunSchema } from "../api/TaskRuns.ts"

interface Paged {
  readonly next_cursor?: string
}

export type Sandboxes = typeof SandboxesResponse.Encoded
export type Sandbox = Sandboxes["sandboxes"][number]

export interface OneSandbox {
  readonly sandbox: Sandbox
}

export type Run = typeof RunSchema.Encoded

export interface Runs extends Paged {
  readonly runs: ReadonlyArray<Run>
}

export interface StartedRun {
  readonly runId: string
}

export interface IssuedKey {
  readonly id: string
  readonly name: string
  readonly key: string
  readonly expiresAt: string | null
}

export interface Keys {
  readonly keys: ReadonlyArray<{
    readonly id: string
    readonly name: string
    readonly createdAt: string
    readonly lastUsedAt: string | null
    readonly expiresAt: string | null
  }>
}

export interface NewAccount {
  readonly account: {
    readonly id: string
    readonly name: string | null
    readonly email: string | null
    readonly createdAt: string
  }
}

export interface AccountTotals extends Paged {
  readonly accounts: ReadonlyArray<{
    readonly account_id: string
    readonly account_email: string | null
    readonly total_sandboxes: number
    readonly last_created_at: string | null
  }>
}

export interface NewOrganization {
  readonly organization: { readonly id: string; readonly name: string }
}

export interface Organizations {
  readonly organizations: ReadonlyArray<{ readonly id: string; readonly name: string; readonly role: string }>
}

export interface Member {
  readonly accountId: string
  readonly role: string
  readonly status: string
}

export interface Members {
  readonly members: ReadonlyArray<Member>
}

export interface OneMember {
  readonly member: Member
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
