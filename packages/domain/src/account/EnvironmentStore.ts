/** Where an account's environment and its snapshots are kept. A NUL in a text may come back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountScope } from "../identity/AccountScope.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import type { SnapshotId } from "../sandbox/Snapshot.ts"
import type { RunId } from "../task/TaskRun.ts"
import type { Environment } from "./Environment.ts"
import type { SnapshotRecord, SnapshotKey } from "./SnapshotRecord.ts"

/** What is to be different; what is left out stays. */
export interface EnvironmentChange {
  readonly snapshot?: { readonly id: SnapshotId; readonly expiresAt: DateTime.Utc }
  readonly repo?: { readonly url: string; readonly granted: boolean }
}

export class EnvironmentStore extends Context.Service<
  EnvironmentStore,
  {
    /** The environment of the scope's account; none where nothing was saved. */
    readonly get: (scope: AccountScope) => Effect.Effect<Option.Option<Environment>>
    /** Changes the environment of the scope's account and gives it; made at `now` if there was none. */
    readonly save: (scope: AccountScope, change: EnvironmentChange, now: DateTime.Utc) => Effect.Effect<Environment>
    /** Forgets the saved snapshot, if it is this one. */
    readonly forget: (scope: AccountScope, snapshot: SnapshotId) => Effect.Effect<void>
    /**
     * Makes `run` the account's setup if there was none or `instead` was it, and gives the setup that stands then: of
     * two that claim at once, both get the same.
     */
    readonly claimSetup: (
      scope: AccountScope,
      run: RunId,
      instead: RunId | null,
      now: DateTime.Utc
    ) => Effect.Effect<RunId>
    /** As `save`, but only while `run` is the account's setup; none if it no longer is, and nothing has changed. */
    readonly saveSetup: (
      scope: AccountScope,
      run: RunId,
      change: EnvironmentChange
    ) => Effect.Effect<Option.Option<Environment>>
    /** Forgets the environment of the scope's account and gives what it was; its snapshots stay. */
    readonly remove: (scope: AccountScope) => Effect.Effect<Option.Option<Environment>>

    /**
     * Writes that a snapshot is wanted, and not taken yet. Idempotent on the key: gives the one that stands. None while
     * another of the account and the same source is wanted and not taken; none if the key is another account's.
     */
    readonly reserveSnapshot: (
      scope: AccountScope,
      snapshot: SnapshotRecord
    ) => Effect.Effect<Option.Option<SnapshotRecord>>
    /**
     * Writes which snapshot was taken, and tells whether it was still wanted: it was not dropped, and no other was taken
     * for it. Saying the same twice is fine.
     */
    readonly completeSnapshot: (scope: AccountScope, key: SnapshotKey, id: SnapshotId) => Effect.Effect<boolean>
    /** The snapshot of that id, if it is one of the scope's account. */
    readonly findSnapshot: (scope: AccountScope, id: SnapshotId) => Effect.Effect<Option.Option<SnapshotRecord>>
    /** The snapshots of the scope's account, wanted and taken, oldest first; of one source if it is named. */
    readonly listSnapshots: (
      scope: AccountScope,
      source: SandboxName | null
    ) => Effect.Effect<ReadonlyArray<SnapshotRecord>>
    /** Forgets a snapshot of the scope's account; forgetting it twice is fine. */
    readonly deleteSnapshot: (scope: AccountScope, key: SnapshotKey) => Effect.Effect<void>
    /**
     * Of all accounts, oldest first, `limit` at most: snapshots that expired before `now`, those wanted before `before`
     * that were not taken, and those of a setup or a fork from before `before` that no environment refers to.
     */
    readonly listUnneeded: (
      now: DateTime.Utc,
      before: DateTime.Utc,
      limit: number
    ) => Effect.Effect<ReadonlyArray<SnapshotRecord>>
  }
>()("domain/account/EnvironmentStore") {}
