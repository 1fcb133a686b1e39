import { Context, DateTime, Effect, Layer, Option, Schema, Semaphore } from "effect"
import type { AccountId } from "../identity/Account.ts"
import type { AccountScope } from "../identity/AccountScope.ts"
import { CurrentActor } from "../identity/CurrentActor.ts"
import type { FileTree, RepoPath } from "../repo/FileTree.ts"
import { FileTrees } from "../repo/FileTrees.ts"
import { type RepoFileNotFound, type RepoFileTooLarge, RepoHost, type RepoUnavailable } from "../repo/RepoHost.ts"
import * as RepoUrl from "../repo/RepoUrl.ts"
import { SnapshotId } from "../sandbox/Snapshot.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { TaskRuns } from "../task/TaskRuns.ts"
import { InternalCause } from "../InternalCause.ts"
import { AccountStore } from "./AccountStore.ts"
import { Environment, isOwn, type ReadableRepo, readable } from "./Environment.ts"
import { EnvironmentStore } from "./EnvironmentStore.ts"
import { Snapshots } from "./Snapshots.ts"

/** The account has no such snapshot: there is none, it is another's, or it has expired. */
export class SnapshotNotFound extends Schema.TaggedError<SnapshotNotFound>()("SnapshotNotFound", { id: SnapshotId }) {}

/** The account has no repository that it may read. */
export class NoRepository extends Schema.TaggedError<NoRepository>()("NoRepository", {}) {}

/** The URL names no repository that the account can read. */
export class RepoNotReadable extends Schema.TaggedError<RepoNotReadable>()("RepoNotReadable", {
  url: Schema.String
}) {}

/** The repository could not be deleted; the account's environment stands as it was. */
export class RepoNotDeleted extends Schema.TaggedError<RepoNotDeleted>()("RepoNotDeleted", {
  retryable: Schema.Boolean,
  cause: InternalCause
}) {}

/** An environment, with what its repository holds. */
export interface EnvironmentView {
  readonly environment: Option.Option<Environment>
  /** None where there is no repository, or it could not be read in time. */
  readonly tree: Option.Option<FileTree>
}

/** Files of a repository that are read for one account at a time. */
const filesAtOnce = 4

/** Sandboxes that are removed side by side. */
const removedAtOnce = 10

/** Sandboxes of one pass of a clearing. */
const rowsAPass = 500

/** What accounts keep between sandboxes: the snapshot the next one begins with, and the repository. */
export class Environments extends Context.Service<
  Environments,
  {
    /** The account's environment with its repository's files. Never fails for the repository's sake. */
    readonly view: (scope: AccountScope) => Effect.Effect<EnvironmentView>
    /**
     * Saves a snapshot of the account, or the URL of its repository, and gives what stands then. The service's own
     * credentials are used for a repository only if it was made for the account or a platform admin set it; any other one
     * has to be public. A repository that can't be read is refused, and nothing is saved.
     */
    readonly change: (
      scope: AccountScope,
      wanted: { readonly snapshot: SnapshotId | null; readonly repo: string | null }
    ) => Effect.Effect<Option.Option<Environment>, RepoNotReadable | RepoUnavailable | SnapshotNotFound, CurrentActor>
    /** A snapshot of the account that a sandbox can boot from. */
    readonly bootable: (scope: AccountScope, id: SnapshotId) => Effect.Effect<SnapshotId, SnapshotNotFound>
    /** The bytes of a file in the account's repository. */
    readonly readFile: (
      scope: AccountScope,
      path: RepoPath
    ) => Effect.Effect<Uint8Array, NoRepository | RepoFileNotFound | RepoFileTooLarge | RepoUnavailable>
    /**
     * Ends what the account has: its setup under way, its sandboxes with their files, its repository if it was made for
     * it, its snapshots. Gives the environment that was there. May be repeated, also after it was cut off anywhere.
     */
    readonly clear: (
      scope: AccountScope
    ) => Effect.Effect<Option.Option<Environment>, RepoNotDeleted | SandboxUnavailable>
  }
>()("domain/account/Environments") {
  static readonly layer = Layer.effect(
    Environments,
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const sandboxes = yield* AccountStore
      const provider = yield* SandboxProvider
      const snapshots = yield* Snapshots
      const host = yield* RepoHost
      const trees = yield* FileTrees
      const runs = yield* TaskRuns

      const treeOf = (account: AccountId, { repo, readAs }: ReadableRepo) =>
        trees.tree(repo, readAs, account).pipe(
          Effect.asSome,
          Effect.catch((failure) =>
            Effect.as(Effect.logDebug("a repository's files are not shown", failure), Option.none())
          )
        )

      const reading = new Map<AccountId, { readonly turn: Semaphore.Semaphore; readers: number }>()

      /** Reads once fewer than `filesAtOnce` files are read for the account, which costs a few processes each. */
      const inTurn = <A, E>(account: AccountId, read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
        Effect.suspend(() => {
          const one = reading.get(account) ?? { turn: Semaphore.makeUnsafe(filesAtOnce), readers: 0 }
          one.readers++
          reading.set(account, one)
          return Effect.ensuring(
            one.turn.withPermits(1)(read),
            Effect.sync(() => {
              if (--one.readers === 0) reading.delete(account)
            })
          )
        })

      /** An environment whose repository has a URL of this version. */
      const shown = (environment: Environment) =>
        environment.repo === null
          ? environment
          : new Environment({ ...environment, repo: RepoUrl.current(host.supports, environment.repo) })

      const view = Effect.fn("Environments.view")(function* (scope: AccountScope) {
        const environment = Option.map(yield* store.get(scope), shown)
        const repo = Option.flatMap(environment, (one) => readable(host.supports, one))
        return { environment, tree: Option.isSome(repo) ? yield* treeOf(scope.account, repo.value) : Option.none() }
      })

      const savable = Effect.fnUntraced(function* (scope: AccountScope, id: SnapshotId, now: DateTime.Utc) {
        const found = yield* store.findSnapshot(scope, id)
        if (Option.isNone(found) || DateTime.isLessThanOrEqualTo(found.value.expiresAt, now)) {
          return yield* new SnapshotNotFound({ id })
        }
        return { id, expiresAt: found.value.expiresAt }
      })

      /**
       * The repository of a URL, once it is known that the account can read it. What exists and may not be read is refused
       * with the same words as what does not exist.
       */
      const checkedRepo = Effect.fnUntraced(function* (scope: AccountScope, url: string, isAdmin: boolean) {
        const named = RepoUrl.at(host.supports, url)
        const isMine = Option.exists(named, (one) => isOwn(host.supports, scope.account, one))
        const saved = { url: RepoUrl.current(host.supports, url), granted: isAdmin && !isMine }
        if (Option.isSome(named) && (isMine || isAdmin) && Option.isSome(yield* host.find(named.value))) return saved
        const atPublic = RepoUrl.parse(host.supports.publicUrl, url)
        if (Option.isSome(atPublic) && (yield* host.isPublic(atPublic.value))) return saved
        return yield* new RepoNotReadable({ url })
      })

      const change = Effect.fn("Environments.change")(function* (
        scope: AccountScope,
        { repo, snapshot }: { readonly snapshot: SnapshotId | null; readonly repo: string | null }
      ) {
        if (snapshot === null && repo === null) return Option.map(yield* store.get(scope), shown)
        const { platformAdmin } = yield* CurrentActor
        const now = yield* DateTime.now
        const change = {
          ...(snapshot === null ? {} : { snapshot: yield* savable(scope, snapshot, now) }),
          ...(repo === null ? {} : { repo: yield* checkedRepo(scope, repo, platformAdmin) })
        }
        const saved = yield* store.save(scope, change, now)
        return Option.some(shown(saved))
      })

      const bootable = Effect.fn("Environments.bootable")(function* (scope: AccountScope, id: SnapshotId) {
        return (yield* savable(scope, id, yield* DateTime.now)).id
      })

      const readFile = Effect.fn("Environments.readFile")(function* (scope: AccountScope, path: RepoPath) {
        const environment = yield* store.get(scope)
        const found = Option.flatMap(environment, (one) => readable(host.supports, one))
        if (Option.isNone(found)) return yield* new NoRepository()
        const { repo, readAs } = found.value
        return yield* inTurn(scope.account, trees.file(repo, path, readAs)).pipe(
          Effect.catchTag("RepoNotFound", () => new NoRepository())
        )
      })

      const removeSandboxes = Effect.fnUntraced(function* (scope: AccountScope) {
        while (true) {
          const rows = yield* sandboxes.listKept(scope, rowsAPass)
          if (rows.length === 0) return
          yield* Effect.forEach(rows, ({ name }) => provider.remove(name), {
            concurrency: removedAtOnce,
            discard: true
          })
          const names = rows.map(({ name }) => name)
          yield* sandboxes.recordRemoved(scope, names, yield* DateTime.now, "It was deleted")
        }
      })

      const removeRepo = (environment: Environment) =>
        Option.match(RepoUrl.at(host.supports, environment.repo ?? ""), {
          onNone: () => Effect.void,
          onSome: (repo) =>
            isOwn(host.supports, environment.account, repo)
              ? host.remove(repo).pipe(
                  Effect.catch((cause) => new RepoNotDeleted({ retryable: cause.retryable, cause })),
                  Effect.andThen(trees.forget(repo))
                )
              : Effect.void
        })

      const clear = Effect.fn("Environments.clear")(function* (scope: AccountScope) {
        const environment = Option.map(yield* store.get(scope), shown)
        if (Option.isSome(environment) && environment.value.setup !== null) {
          yield* Effect.ignore(runs.cancel(scope, environment.value.setup))
        }
        yield* removeSandboxes(scope)
        if (Option.isSome(environment)) yield* removeRepo(environment.value)
        for (const snapshot of yield* store.listSnapshots(scope, null)) yield* snapshots.remove(scope, snapshot)
        const removed = yield* store.remove(scope)
        // The snapshot is told as it was, though it has been forgotten on the way.
        return Option.isSome(removed) ? environment : removed
      })

      return Environments.of({ view, change, bootable, readFile, clear })
    })
  )
}
