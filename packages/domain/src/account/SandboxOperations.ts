import { Context, DateTime, Duration, Effect, Layer, Option, Schema, Stream } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { deletedByOwner } from "../ChangeReason.ts"
import type { AccountScope } from "../identity/AccountScope.ts"
import { givenOrNew } from "../newNonce.ts"
import type { FilePage, ListingPage, SandboxPath } from "../sandbox/SandboxFile.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import {
  type FileNotFound,
  type FileRefused,
  SandboxGone,
  SandboxNotRunning,
  SandboxProvider,
  type SandboxUnavailable,
  type WriteOptions
} from "../sandbox/SandboxProvider.ts"
import type { SandboxQuotaReached } from "../sandbox/SandboxQuota.ts"
import type { CommandRequest } from "../task/CommandRun.ts"
import type { TaskRun } from "../task/TaskRun.ts"
import { TaskRuns } from "../task/TaskRuns.ts"
import type { AccountSandbox } from "./AccountSandbox.ts"
import { AccountSandboxes, type SandboxNotCreated } from "./AccountSandboxes.ts"
import { AccountStore } from "./AccountStore.ts"
import { SnapshotKey } from "./SnapshotRecord.ts"
import { type SnapshotInProgress, Snapshots, type TakenSnapshot } from "./Snapshots.ts"

/** The account has no sandbox with this name. It does not exist, or it belongs to another account. */
export class SandboxNotFound extends Schema.TaggedError<SandboxNotFound>()("SandboxNotFound", {
  name: Schema.String
}) {}

/** Failures of operations that need a running sandbox. */
type NeedsRunning = SandboxNotFound | SandboxNotRunning | SandboxUnavailable

/** The owner sees a sandbox that the provider no longer has as one that is not running. */
const notRunning = ({ name }: SandboxGone) => new SandboxNotRunning({ name, reason: null })

const isGone = Schema.is(SandboxGone)

/** Expiry of a fork's snapshot, for the case that it is not removed after the fork. */
const forkKept = Duration.hours(1)

/** Runs commands in an account's sandbox, reads and writes its files, snapshots, forks, extends and removes it. */
export class SandboxOperations extends Context.Service<
  SandboxOperations,
  {
    /** The sandbox in its current state. Never wakes it. */
    readonly get: (scope: AccountScope, name: SandboxName) => Effect.Effect<AccountSandbox, SandboxNotFound>
    /** Queues a command in the sandbox. The same nonce returns the same run. */
    readonly run: (
      scope: AccountScope,
      name: SandboxName,
      wanted: CommandRequest
    ) => Effect.Effect<TaskRun, NeedsRunning>
    readonly readFile: (
      scope: AccountScope,
      name: SandboxName,
      path: SandboxPath
    ) => Stream.Stream<Uint8Array, FileNotFound | FileRefused | NeedsRunning>
    /** Writes a file atomically and returns the number of bytes written. */
    readonly writeFile: <E>(
      scope: AccountScope,
      name: SandboxName,
      path: SandboxPath,
      content: Stream.Stream<Uint8Array, E>,
      options?: WriteOptions
    ) => Effect.Effect<number, E | FileNotFound | FileRefused | NeedsRunning>
    readonly listFiles: (
      scope: AccountScope,
      name: SandboxName,
      path: SandboxPath,
      page: ListingPage
    ) => Effect.Effect<FilePage, FileNotFound | FileRefused | NeedsRunning>
    /** Takes a snapshot of the sandbox's files. Stops the sandbox if the provider cannot take one while it runs. */
    readonly snapshot: (
      scope: AccountScope,
      name: SandboxName,
      wanted: { readonly keptFor: Duration.Duration; readonly nonce: Option.Option<string> }
    ) => Effect.Effect<TakenSnapshot, SandboxNotFound | SandboxUnavailable | SnapshotInProgress>
    /**
     * Creates another running sandbox with the same files. If the provider stops a sandbox to copy it, the original is
     * resumed afterwards, without its processes.
     */
    readonly fork: (
      scope: AccountScope,
      name: SandboxName,
      nonce: Option.Option<string>
    ) => Effect.Effect<
      AccountSandbox,
      SandboxNotCreated | SandboxNotFound | SandboxQuotaReached | SandboxUnavailable | SnapshotInProgress
    >
    /** Postpones the sandbox's expiry by `by`. */
    readonly extend: (
      scope: AccountScope,
      name: SandboxName,
      by: Duration.Duration
    ) => Effect.Effect<AccountSandbox, NeedsRunning>
    /** Stops the sandbox and deletes its files; its row stays. Idempotent. */
    readonly remove: (
      scope: AccountScope,
      name: SandboxName
    ) => Effect.Effect<void, SandboxNotFound | SandboxUnavailable>
  }
>()("domain/account/SandboxOperations") {
  static readonly layer = (options: { readonly lifetime: Duration.Duration }) =>
    Layer.effect(
      SandboxOperations,
      Effect.gen(function* () {
        const store = yield* AccountStore
        const sandboxes = yield* AccountSandboxes
        const snapshots = yield* Snapshots
        const provider = yield* SandboxProvider
        const runs = yield* TaskRuns
        const random = yield* SecureRandom

        /** The account's row, without asking the provider. */
        const rowOf = Effect.fnUntraced(function* (scope: AccountScope, name: SandboxName) {
          const row = yield* store.get(scope, name)
          return Option.isSome(row) ? row.value : yield* new SandboxNotFound({ name })
        })

        const rowWithFiles = Effect.fnUntraced(function* (scope: AccountScope, name: SandboxName) {
          const row = yield* rowOf(scope, name)
          if (row.removedAt !== null) return yield* new SandboxNotRunning({ name, reason: row.reason })
          return row
        })

        const get = Effect.fn("SandboxOperations.get")(function* (scope: AccountScope, name: SandboxName) {
          const found = yield* sandboxes.find(scope, name)
          return Option.isSome(found) ? found.value : yield* new SandboxNotFound({ name })
        })

        const run = Effect.fn("SandboxOperations.run")(function* (
          scope: AccountScope,
          name: SandboxName,
          wanted: CommandRequest
        ) {
          yield* rowWithFiles(scope, name)
          const found = yield* provider.find(name)
          if (!Option.exists(found, ({ status }) => status === "running")) {
            return yield* new SandboxNotRunning({ name, reason: Option.getOrNull(found)?.reason ?? null })
          }
          return yield* runs.startCommand(scope, name, wanted)
        })

        const snapshot = Effect.fn("SandboxOperations.snapshot")(function* (
          scope: AccountScope,
          name: SandboxName,
          wanted: { readonly keptFor: Duration.Duration; readonly nonce: Option.Option<string> }
        ) {
          yield* rowOf(scope, name)
          const key = SnapshotKey.make(`snp_${yield* givenOrNew(random, wanted.nonce)}`)
          const taken = yield* snapshots
            .take(scope, name, { key, purpose: "manual", keptFor: wanted.keptFor })
            .pipe(Effect.catchTag("SandboxGone", () => new SandboxNotFound({ name })))
          if (provider.supports.snapshotStops) yield* sandboxes.find(scope, name)
          return taken
        })

        const copyOf = Effect.fnUntraced(function* (scope: AccountScope, name: SandboxName, nonce: string) {
          const key = SnapshotKey.make(`snp_${nonce}`)
          const ran = Option.exists(yield* provider.find(name), ({ status }) => status === "running")
          const copy = yield* snapshots
            .take(scope, name, { key, purpose: "fork", keptFor: forkKept })
            .pipe(Effect.catchTag("SandboxGone", () => new SandboxNotFound({ name })))
          if (ran && provider.supports.snapshotStops) {
            const again = yield* provider
              .resume(name, options.lifetime)
              .pipe(Effect.catchTag("SandboxGone", () => new SandboxNotFound({ name })))
            yield* store.recordObserved(scope, [again])
          }
          return copy
        })

        const fork = Effect.fn("SandboxOperations.fork")(function* (
          scope: AccountScope,
          name: SandboxName,
          asked: Option.Option<string>
        ) {
          yield* rowOf(scope, name)
          const nonce = yield* givenOrNew(random, asked)
          const copy = yield* copyOf(scope, name, nonce)
          const { sandbox } = yield* sandboxes.create(scope, {
            work: Option.none(),
            nonce: Option.some(nonce),
            from: copy.id
          })
          // If this fails, the collector of `Snapshots` removes the snapshot later.
          yield* Effect.ignore(snapshots.remove(scope, copy))
          return sandbox
        }, Effect.uninterruptible)

        const extend = Effect.fn("SandboxOperations.extend")(function* (
          scope: AccountScope,
          name: SandboxName,
          by: Duration.Duration
        ) {
          yield* rowWithFiles(scope, name)
          yield* store.recordObserved(scope, [
            yield* provider.extend(name, by).pipe(Effect.catchTag("SandboxGone", notRunning))
          ])
          return yield* rowOf(scope, name)
        })

        const remove = Effect.fn("SandboxOperations.remove")(function* (scope: AccountScope, name: SandboxName) {
          const row = yield* rowOf(scope, name)
          if (row.removedAt !== null) return
          yield* provider.remove(name)
          yield* store.recordRemoved(scope, [name], yield* DateTime.now, deletedByOwner)
        })

        return SandboxOperations.of({
          get,
          run,
          readFile: (scope, name, path) =>
            Stream.unwrap(Effect.as(rowWithFiles(scope, name), provider.readFile(name, path))).pipe(
              Stream.catchTag("SandboxGone", (gone) => Stream.fail(notRunning(gone)))
            ),
          writeFile: (scope, name, path, content, options) =>
            Effect.andThen(
              rowWithFiles(scope, name),
              // Not `catchTag`: the content stream's own failures pass through unchanged.
              Effect.catchIf(provider.writeFile(name, path, content, options), isGone, notRunning)
            ),
          listFiles: (scope, name, path, page) =>
            Effect.andThen(rowWithFiles(scope, name), provider.listFiles(name, path, page)).pipe(
              Effect.catchTag("SandboxGone", notRunning)
            ),
          snapshot,
          fork,
          extend,
          remove
        })
      })
    )
}
