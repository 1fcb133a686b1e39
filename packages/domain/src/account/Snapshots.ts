import { Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import type { SnapshotId } from "../sandbox/Snapshot.ts"
import { type SandboxGone, SandboxProvider, SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { EnvironmentStore } from "./EnvironmentStore.ts"
import { SnapshotRecord, type SnapshotKey } from "./SnapshotRecord.ts"

/** The sandbox already has a snapshot in progress. */
export class SnapshotInProgress extends Schema.TaggedError<SnapshotInProgress>()("SnapshotInProgress", {
  source: SandboxName
}) {}

/** A complete snapshot. */
export type TakenSnapshot = SnapshotRecord & { readonly id: SnapshotId }

const completed = (record: SnapshotRecord, id: SnapshotId): TakenSnapshot =>
  Object.assign(new SnapshotRecord({ ...record, id }), { id })

/** A request to take a snapshot. */
export interface NewSnapshot extends Pick<SnapshotRecord, "purpose"> {
  /** Idempotency key: the same key returns the same snapshot. */
  readonly key: SnapshotKey
  readonly keptFor: Duration.Duration
}

/** How long a snapshot may stay incomplete, or a setup's or fork's snapshot unreferenced, before it is abandoned. */
const abandonedAfter = Duration.minutes(30)

/** Rows that one pass of the collector handles. */
const rowsPerPass = 100

/** Takes, removes and garbage-collects the snapshots of accounts. A row is written before the provider is called. */
export class Snapshots extends Context.Service<
  Snapshots,
  {
    /** Takes a snapshot of a sandbox of the scope's account. */
    readonly take: (
      scope: AccountScope,
      source: SandboxName,
      wanted: NewSnapshot
    ) => Effect.Effect<TakenSnapshot, SandboxGone | SandboxUnavailable | SnapshotInProgress>
    /** Removes a snapshot of the scope's account, complete or not. */
    readonly remove: (scope: AccountScope, snapshot: SnapshotRecord) => Effect.Effect<void, SandboxUnavailable>
    /** Removes unusable snapshots of all accounts and returns how many. */
    readonly collect: Effect.Effect<number>
  }
>()("domain/account/Snapshots") {
  static readonly layer = Layer.effect(
    Snapshots,
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const provider = yield* SandboxProvider

      /** Removes the sandbox's snapshots that have no row: a crash came after the provider took them. */
      const removeUnrecorded = Effect.fnUntraced(function* (scope: AccountScope, source: SandboxName) {
        const existing = yield* provider.snapshots(source)
        if (existing.length === 0) return
        const known = new Set((yield* store.listSnapshots(scope, source)).map(({ id }) => id))
        for (const { id } of existing) if (!known.has(id)) yield* provider.removeSnapshot(id)
      })

      const remove = Effect.fn("Snapshots.remove")(function* (scope: AccountScope, snapshot: SnapshotRecord) {
        if (snapshot.id === null) yield* removeUnrecorded(scope, snapshot.source)
        else {
          yield* store.forget(scope, snapshot.id)
          yield* provider.removeSnapshot(snapshot.id)
        }
        yield* store.deleteSnapshot(scope, snapshot.key)
      })

      const take = Effect.fn("Snapshots.take")(function* (
        scope: AccountScope,
        source: SandboxName,
        { keptFor, key, purpose }: NewSnapshot
      ) {
        const now = yield* DateTime.now
        const intent = new SnapshotRecord({
          key,
          account: scope.account,
          source,
          id: null,
          purpose,
          startedAt: now,
          expiresAt: DateTime.addDuration(now, keptFor)
        })
        const reserved = yield* store.reserveSnapshot(scope, intent)
        if (Option.isNone(reserved)) return yield* new SnapshotInProgress({ source })
        const { id, startedAt } = reserved.value
        if (id !== null) return completed(reserved.value, id)
        // An earlier attempt crashed, possibly after it called the provider.
        if (startedAt.epochMilliseconds !== now.epochMilliseconds) yield* removeUnrecorded(scope, source)
        const made = yield* provider
          .snapshot(source)
          .pipe(Effect.tapError(() => Effect.ignore(remove(scope, reserved.value))))
        if (!(yield* store.completeSnapshot(scope, key, made.id))) {
          yield* provider.removeSnapshot(made.id)
          return yield* new SandboxUnavailable({ operation: "snapshot", retryable: true })
        }
        return completed(reserved.value, made.id)
      }, Effect.uninterruptible)

      const collect = Effect.gen(function* () {
        const now = yield* DateTime.now
        const unneeded = yield* store.listUnneeded(now, DateTime.subtractDuration(now, abandonedAfter), rowsPerPass)
        let removed = 0
        for (const snapshot of unneeded) {
          yield* remove(AccountScope.ofOwner(snapshot), snapshot).pipe(
            Effect.andThen(Effect.sync(() => void removed++)),
            // One failed removal must not block the others.
            Effect.catch((failure) => Effect.logWarning("Failed to remove snapshot", { key: snapshot.key }, failure))
          )
        }
        return removed
      }).pipe(Effect.withSpan("Snapshots.collect"))

      return Snapshots.of({ take, remove, collect })
    })
  )
}
