/**
 * Stores the environments of accounts and the records of their snapshots. A NUL in a text may be read back as U+FFFD.
 */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { SnapshotId } from "../sandbox/Snapshot.ts"
import type { RunId } from "../task/TaskRun.ts"
import type { Environment } from "./Environment.ts"
import type { SnapshotRecord, SnapshotKey } from "./SnapshotRecord.ts"

/** The fields to change; others stay as they are. */
export interface EnvironmentChange {
  readonly snapshot?: { readonly id: SnapshotId; readonly expiresAt: DateTime.Utc }
  readonly repo?: { readonly url: string; readonly granted: boolean }
}

export class EnvironmentStore extends Context.Service<
  EnvironmentStore,
  {
    /** The environment of the scope's account; none if nothing was saved. */
    readonly get: (scope: AccountScope) => Effect.Effect<Option.Option<Environment>>
    /** Changes the environment of the scope's account and returns it. Creates it at `now` if there is none. */
    readonly save: (scope: AccountScope, change: EnvironmentChange, now: DateTime.Utc) => Effect.Effect<Environment>
    /** Clears the saved snapshot if it is this one. */
    readonly forget: (scope: AccountScope, snapshot: SnapshotId) => Effect.Effect<void>
    /**
     * Makes `run` the account's setup if there was none or it was `instead`, and returns the resulting setup.
     * Concurrent calls all return the same one.
     */
    readonly claimSetup: (
      scope: AccountScope,
      run: RunId,
      instead: RunId | null,
      now: DateTime.Utc
    ) => Effect.Effect<RunId>
    /** Like `save`, but only while `run` is the account's setup; otherwise returns none and changes nothing. */
    readonly saveSetup: (
      scope: AccountScope,
      run: RunId,
      change: EnvironmentChange
    ) => Effect.Effect<Option.Option<Environment>>
    /** Deletes the environment of the scope's account and returns it. Its snapshots stay. */
    readonly remove: (scope: AccountScope) => Effect.Effect<Option.Option<Environment>>

    /**
     * Reserves a snapshot that is not complete yet. Idempotent on the key: returns the existing record. None if another
     * snapshot of the same account and source is reserved and incomplete, or the key belongs to another account.
     */
    readonly reserveSnapshot: (
      scope: AccountScope,
      snapshot: SnapshotRecord
    ) => Effect.Effect<Option.Option<SnapshotRecord>>
    /**
     * Records which snapshot was taken. True if it was still reserved: the record was not deleted, and no other
     * snapshot was recorded for it. Idempotent.
     */
    readonly completeSnapshot: (scope: AccountScope, key: SnapshotKey, id: SnapshotId) => Effect.Effect<boolean>
    /** The snapshot with this id, if it belongs to the scope's account. */
    readonly findSnapshot: (scope: AccountScope, id: SnapshotId) => Effect.Effect<Option.Option<SnapshotRecord>>
    /** The snapshots of the scope's account, complete or not, oldest first; of one source if it is given. */
    readonly listSnapshots: (
      scope: AccountScope,
      source: SandboxName | null
    ) => Effect.Effect<ReadonlyArray<SnapshotRecord>>
    /** Deletes the record of a snapshot of the scope's account. Idempotent. */
    readonly deleteSnapshot: (scope: AccountScope, key: SnapshotKey) => Effect.Effect<void>
    /**
     * Snapshots of all accounts to remove, oldest first, at most `limit`: those that expired before `now`, those that
     * were reserved before `before` and are incomplete, and those of a setup or fork from before `before` that no
     * environment refers to.
     */
    readonly listUnneeded: (
      now: DateTime.Utc,
      before: DateTime.Utc,
      limit: number
    ) => Effect.Effect<ReadonlyArray<SnapshotRecord>>
  }
>()("domain/account/EnvironmentStore") {}
