import { Context, DateTime, Effect, Layer, Option, Schema, Semaphore } from "effect"
import type { AccountId } from "../identity/Account.ts"
import type { AccountScope } from "../identity/AccountScope.ts"
import { deletedByOwner } from "../ChangeReason.ts"
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

/** The account has no such snapshot. It does not exist, belongs to another account, or has expired. */
export class SnapshotNotFound extends Schema.TaggedError<SnapshotNotFound>()("SnapshotNotFound", { id: SnapshotId }) {}

/** The account has no repository, or none that it may read. */
export class NoRepository extends Schema.TaggedError<NoRepository>()("NoRepository", {}) {}

/** The URL names no repository that the account can read. */
export class RepoNotReadable extends Schema.TaggedError<RepoNotReadable>()("RepoNotReadable", {
  url: Schema.String
}) {}

/** The repository could not be deleted. The account's environment is unchanged. */
export class RepoNotDeleted extends Schema.TaggedError<RepoNotDeleted>()("RepoNotDeleted", {
  retryable: Schema.Boolean,
  cause: InternalCause
}) {}

/** An environment with the file tree of its repository. */
export interface EnvironmentView {
  readonly environment: Option.Option<Environment>
  /** None without a repository, or if it could not be read in time. */
  readonly tree: Option.Option<FileTree>
}

/** Concurrent reads of repository files for one account. */
const maxFileReads = 4

/** Concurrent removals of sandboxes. */
const maxRemovals = 10

/** Sandboxes that `clear` removes in one pass. */
const rowsPerPass = 500

/** Reads, changes and clears what an account keeps between sandboxes: its saved snapshot and its repository. */
export class Environments extends Context.Service<
  Environments,
  {
    /** The account's environment with its repository's file tree. A repository that cannot be read is not a failure. */
    readonly view: (scope: AccountScope) => Effect.Effect<EnvironmentView>
    /**
     * Saves a snapshot of the account, the URL of its repository, or both, and returns the resulting environment. The
     * service's own credentials are used for a repository only if it was created for the account or set by a platform
     * admin; any other repository must be public. Rejects an unreadable repository without saving anything.
     */
    readonly change: (
      scope: AccountScope,
      wanted: { readonly snapshot: SnapshotId | null; readonly repo: string | null }
    ) => Effect.Effect<Option.Option<Environment>, RepoNotReadable | RepoUnavailable | SnapshotNotFound, CurrentActor>
    /** The id, if a sandbox can boot from this snapshot of the account. */
    readonly bootable: (scope: AccountScope, id: SnapshotId) => Effect.Effect<SnapshotId, SnapshotNotFound>
    /** The bytes of a file in the account's repository. */
    readonly readFile: (
      scope: AccountScope,
      path: RepoPath
    ) => Effect.Effect<Uint8Array, NoRepository | RepoFileNotFound | RepoFileTooLarge | RepoUnavailable>
    /**
     * Cancels the account's setup and deletes its sandboxes with their files, its snapshots, and its repository if that
     * was created for the account. Returns the previous environment. Idempotent, also after a crash at any point.
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
            Effect.as(Effect.logDebug("Failed to read repository tree", failure), Option.none())
          )
        )

      const withReadLimit = readLimiter()

      /** The environment with its repository's URL in the current form. */
      const withCurrentUrl = (environment: Environment) =>
        environment.repo === null
          ? environment
          : new Environment({ ...environment, repo: RepoUrl.current(host.supports, environment.repo) })

      const view = Effect.fn("Environments.view")(function* (scope: AccountScope) {
        const environment = Option.map(yield* store.get(scope), withCurrentUrl)
        const repo = Option.flatMap(environment, (one) => readable(host.supports, one))
        return { environment, tree: Option.isSome(repo) ? yield* treeOf(scope.account, repo.value) : Option.none() }
      })

      const usableSnapshot = Effect.fnUntraced(function* (scope: AccountScope, id: SnapshotId, now: DateTime.Utc) {
        const found = yield* store.findSnapshot(scope, id)
        if (Option.isNone(found) || DateTime.isLessThanOrEqualTo(found.value.expiresAt, now)) {
          return yield* new SnapshotNotFound({ id })
        }
        return { id, expiresAt: found.value.expiresAt }
      })

      const readableRepo = readableRepoAt(host)
      const removeSandboxes = removeAllSandboxes(sandboxes, provider)

      const change = Effect.fn("Environments.change")(function* (
        scope: AccountScope,
        { repo, snapshot }: { readonly snapshot: SnapshotId | null; readonly repo: string | null }
      ) {
        if (snapshot === null && repo === null) return Option.map(yield* store.get(scope), withCurrentUrl)
        const { platformAdmin } = yield* CurrentActor
        const now = yield* DateTime.now
        const change = {
          ...(snapshot === null ? {} : { snapshot: yield* usableSnapshot(scope, snapshot, now) }),
          ...(repo === null ? {} : { repo: yield* readableRepo(scope, repo, platformAdmin) })
        }
        const saved = yield* store.save(scope, change, now)
        return Option.some(withCurrentUrl(saved))
      })

      const bootable = Effect.fn("Environments.bootable")(function* (scope: AccountScope, id: SnapshotId) {
        return (yield* usableSnapshot(scope, id, yield* DateTime.now)).id
      })

      const readFile = Effect.fn("Environments.readFile")(function* (scope: AccountScope, path: RepoPath) {
        const environment = yield* store.get(scope)
        const found = Option.flatMap(environment, (one) => readable(host.supports, one))
        if (Option.isNone(found)) return yield* new NoRepository()
        const { repo, readAs } = found.value
        return yield* withReadLimit(scope.account, trees.file(repo, path, readAs)).pipe(
          Effect.catchTag("RepoNotFound", () => new NoRepository())
        )
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
        const environment = Option.map(yield* store.get(scope), withCurrentUrl)
        if (Option.isSome(environment) && environment.value.setup !== null) {
          yield* Effect.ignore(runs.cancel(scope, environment.value.setup))
        }
        yield* removeSandboxes(scope)
        if (Option.isSome(environment)) yield* removeRepo(environment.value)
        for (const snapshot of yield* store.listSnapshots(scope, null)) yield* snapshots.remove(scope, snapshot)
        const removed = yield* store.remove(scope)
        // `environment` still names the snapshot, which removing the snapshots has cleared from the stored row.
        return Option.isSome(removed) ? environment : removed
      })

      return Environments.of({ view, change, bootable, readFile, clear })
    })
  )
}

/** Limits each account to `maxFileReads` concurrent reads: each read starts several processes. */
const readLimiter = () => {
  const limiters = new Map<AccountId, { readonly semaphore: Semaphore.Semaphore; readers: number }>()
  return <A, E>(account: AccountId, read: Effect.Effect<A, E>): Effect.Effect<A, E> =>
    Effect.suspend(() => {
      const limiter = limiters.get(account) ?? { semaphore: Semaphore.makeUnsafe(maxFileReads), readers: 0 }
      limiter.readers++
      limiters.set(account, limiter)
      return Effect.ensuring(
        limiter.semaphore.withPermits(1)(read),
        Effect.sync(() => {
          if (--limiter.readers === 0) limiters.delete(account)
        })
      )
    })
}

/**
 * Checks that the account can read the repository at a URL, and returns what to save. A repository that the account may not
 * read gives the same error as one that does not exist.
 */
const readableRepoAt = (host: RepoHost["Service"]) =>
  Effect.fnUntraced(function* (scope: AccountScope, url: string, isAdmin: boolean) {
    const named = RepoUrl.at(host.supports, url)
    const isMine = Option.exists(named, (one) => isOwn(host.supports, scope.account, one))
    const saved = { url: RepoUrl.current(host.supports, url), granted: isAdmin && !isMine }
    if (Option.isSome(named) && (isMine || isAdmin) && Option.isSome(yield* host.find(named.value))) return saved
    const atPublic = RepoUrl.parse(host.supports.publicUrl, url)
    if (Option.isSome(atPublic) && (yield* host.isPublic(atPublic.value))) return saved
    return yield* new RepoNotReadable({ url })
  })

const removeAllSandboxes = (store: AccountStore["Service"], provider: SandboxProvider["Service"]) =>
  Effect.fnUntraced(function* (scope: AccountScope) {
    while (true) {
      const rows = yield* store.listKept(scope, rowsPerPass)
      if (rows.length === 0) return
      yield* Effect.forEach(rows, ({ name }) => provider.remove(name), { concurrency: maxRemovals, discard: true })
      const names = rows.map(({ name }) => name)
      yield* store.recordRemoved(scope, names, yield* DateTime.now, deletedByOwner)
    }
  })
