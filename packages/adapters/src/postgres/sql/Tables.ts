/** The columns of the tables. JSON is stored as text, because Postgres's JSON types refuse some strings that JSON allows. */
import type { ColumnType } from "kysely"

type Time = ColumnType<Date, Date, Date>
type TimeOrNull = ColumnType<Date | null, Date | null | undefined, Date | null>

export interface Tables {
  accounts: {
    id: string
    name: string | null
    email: string | null
    platform_admin: boolean
    created_at: Time
  }
  api_keys: {
    id: string
    account_id: string
    name: string
    digest: string
    created_at: Time
    last_used_at: TimeOrNull
    expires_at: TimeOrNull
  }
  memberships: {
    organization_id: string
    account_id: string
    role: string
    status: string
    created_at: Time
  }
  idempotent_requests: {
    account_id: string
    key: string
    request: string
    nonce: string
    asked_at: Time
    begun_at: Time
    answer_status: number | null
    answer_body: string | null
  }
  account_sandboxes: {
    name: string
    account_id: string
    status: string
    reason: string | null
    created_at: Time
    expires_at: TimeOrNull
    removed_at: TimeOrNull
  }
  environments: {
    account_id: string
    snapshot: string | null
    expires_at: TimeOrNull
    repo: string | null
    granted: boolean
    setup: string | null
    created_at: Time
  }
  kept_snapshots: {
    key: string
    account_id: string
    source: string
    snapshot: string | null
    purpose: string
    started_at: Time
    expires_at: Time
    /** Maintained by the database; true only while the snapshot is certainly that of an environment. */
    saved: ColumnType<boolean, never, never>
  }
  sessions: {
    id: string
    account_id: string
    title: string
    status: string
    organization_id: string | null
    repo: string | null
    ephemeral: boolean
    created_at: Time
    updated_at: Time
    state: string | null
    version: number
    sandbox: string | null
    incarnation: string | null
    last_activity_at: TimeOrNull
    hibernate_after: TimeOrNull
    sandbox_expires_at: TimeOrNull
    look_at: TimeOrNull
    fresh: boolean
    workspace: boolean | null
    branch: string | null
    attempt: number
    error: string | null
    error_code: string | null
  }
  app_sandboxes: {
    name: string
    account_id: string
    state: string
    version: number
    port: number
    created_at: Time
    expires_at: TimeOrNull
    look_at: TimeOrNull
    reason: string | null
  }
  events: {
    account_id: string
    /** Assigned by the database. */
    place: ColumnType<string, never, never>
    type: string
    sandbox: string | null
    session: string | null
    /** Null for events of servers that wrote none. */
    code: string | null
    reason: string | null
    at: Time
  }
  base_images: {
    key: string
    account_id: string | null
    current: string | null
    built_at: TimeOrNull
    builder: string | null
    builder_until: TimeOrNull
    failures: number
    retry_after: TimeOrNull
    error: string | null
    replaced: ReadonlyArray<string>
    used_at: Time
  }
  task_runs: {
    id: string
    account_id: string
    task: string
    sandbox: string | null
    input: string
    status: string
    attempt: number
    current_step: string | null
    logs: string
    output: string | null
    error: string | null
    error_code: string | null
    created_at: Time
    updated_at: Time
    started_at: TimeOrNull
    finished_at: TimeOrNull
    version: number
  }
}
