import { Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import type { SnapshotId } from "../sandbox/Snapshot.ts"
import { type SandboxGone, SandboxProvider, SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { EnvironmentStore } from "./EnvironmentStore.ts"
import { SnapshotRecord, type SnapshotKey } from "./SnapshotRecord.ts"

/** Another snapshot of the sandbox is being taken. */
export class SnapshotInProgress extends Schema.TaggedError<SnapshotInProgress>()("SnapshotInProgress", {
  source: SandboxName
}) {}

/** A snapshot that was taken. */
export type TakenSnapshot = SnapshotRecord & { readonly id: SnapshotId }

const takenAs = (kept: SnapshotRecord, id: SnapshotId): TakenSnapshot =>
  Object.assign(new SnapshotRecord({ ...kept, id }), { id })

/** A snapshot to be. */
export interface NewSnapshot extends Pick<SnapshotRecord, "purpose"> {
  /** Makes asking repeatable: the same key gives the same snapshot. */
  readonly key: SnapshotKey
  readonly keptFor: Duration.Duration
}

/** How long a snapshot may take, and one of a setup or fork may be on its way, before it counts as left behind. */
const leftBehindAfter = Duration.minutes(30)

/** Rows one pass of the collector takes; the next pass takes the rest. */
const rowsAPass = 100

/** The snapshots of accounts: none is taken without a row that knows of it, none stays that nobody can use. */
export class Snapshots extends Context.Service<
  Snapshots,
  {
    /** Takes a snapshot of a sandbox of the scope's account. */
    readonly take: (
      scope: AccountScope,
      source: SandboxName,
      wanted: NewSnapshot
    ) => Effect.Effect<TakenSnapshot, SandboxGone | SandboxUnavailable | SnapshotInProgress>
    /** Removes a snapshot of the scope's account, or what was left of one that never was finished. */
    readonly remove: (scope: AccountScope, snapshot: SnapshotRecord) => Effect.Effect<void, SandboxUnavailable>
    /** Removes what nobody can use any more, of all accounts; gives the number of rows that are gone. */
    readonly collect: Effect.Effect<number>
  }
>()("domain/account/Snapshots") {
  static readonly layer = Layer.effect(
    Snapshots,
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const provider = yield* SandboxProvider

      /** Removes the snapshots of a sandbox that no row knows: an answer of the provider's that nobody wrote down. */
      const sweep = Effect.fnUntraced(function* (scope: AccountScope, source: SandboxName) {
        const existing = yield* provider.snapshots(source)
        if (existing.length === 0) return
        const known = new Set((yield* store.listSnapshots(scope, source)).map(({ id }) => id))
        for (const { id } of existing) if (!known.has(id)) yield* provider.removeSnapshot(id)
      })

      const remove = Effect.fn("Snapshots.remove")(function* (scope: AccountScope, snapshot: SnapshotRecord) {
        if (snapshot.id === null) yield* sweep(scope, snapshot.source)
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
        const stands = yield* store.reserveSnapshot(scope, intent)
        if (Option.isNone(stands)) return yield* new SnapshotInProgress({ source })
        const { id, startedAt } = stands.value
        if (id !== null) return takenAs(stands.value, id)
        // An earlier attempt was cut off, after the provider was asked perhaps.
        if (startedAt.epochMilliseconds !== now.epochMilliseconds) yield* sweep(scope, source)
        const made = yield* provider
          .snapshot(source)
          .pipe(Effect.tapError(() => Effect.ignore(remove(scope, stands.value))))
        if (!(yield* store.completeSnapshot(scope, key, made.id))) {
          yield* provider.removeSnapshot(made.id)
          return yield* new SandboxUnavailable({ operation: "snapshot", retryable: true })
        }
        return takenAs(stands.value, made.id)
      }, Effect.uninterruptible)

      const collect = Effect.gen(function* () {
        const now = yield* DateTime.now
        const unneeded = yield* store.listUnneeded(now, DateTime.subtractDuration(now, leftBehindAfter), rowsAPass)
        let gone = 0
        for (const snapshot of unneeded) {
          yield* remove(AccountScope.ofOwner(snapshot), snapshot).pipe(
            Effect.andThen(Effect.sync(() => void gone++)),
            // One that can't be removed does not keep the others.
            Effect.catch((failure) => Effect.logWarning("a snapshot could not be removed", failure))
          )
        }
        return gone
      }).pipe(Effect.withSpan("Snapshots.collect"))

      return Snapshots.of({ take, remove, collect })
    })
  )
}
