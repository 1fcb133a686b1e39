/** Reads the files on the default branches of repositories. Caches trees and limits the requests to the host. */
import { Context, Deferred, Effect, Exit, Layer, Option, Semaphore } from "effect"
import { monotonicMillis } from "../monotonicMillis.ts"
import type { FileTree, RepoPath } from "./FileTree.ts"
import { HostBackoff } from "./HostBackoff.ts"
import type { ReadAs } from "./ReadAs.ts"
import type { Repo } from "./Repo.ts"
import {
  type RepoFileNotFound,
  type RepoFileTooLarge,
  RepoHost,
  type RepoNotFound,
  RepoUnavailable
} from "./RepoHost.ts"
import { TreeCache } from "./TreeCache.ts"

/** Milliseconds for which a cached tree is returned without asking the host for changes. */
export const freshMs = 15_000

/** Milliseconds from the request to the host after which waiting callers fail. */
export const hostTimeoutMs = 4_000

/** Unanswered requests to the host for one asker. A further one fails. */
const maxPendingPerAsker = 2

/** Trees that are read from the host concurrently. Others wait. */
const maxConcurrentReads = 32

type ReadFailure = RepoNotFound | RepoUnavailable

/** A request to the host that has not been answered. */
interface PendingRead {
  readonly askedAt: number
  readonly asker: string | null
  readonly answer: Deferred.Deferred<FileTree, ReadFailure>
}

export class FileTrees extends Context.Service<
  FileTrees,
  {
    /**
     * The repository's tree, at most `freshMs` old. Concurrent callers share one request to the host, and wait for it for
     * `hostTimeoutMs`. After a failure the host is not asked for this tree for a while; if the host said how long to wait,
     * it is not asked for any tree with the same `readAs`. Fails at once while two requests of the same `asker` are
     * unanswered, so that the trees of one account don't delay those of others.
     */
    readonly tree: (repo: Repo, readAs?: ReadAs, asker?: string) => Effect.Effect<FileTree, ReadFailure>
    /** The bytes of a file. */
    readonly file: (
      repo: Repo,
      path: RepoPath,
      readAs: ReadAs
    ) => Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | ReadFailure>
    /** Makes the next call of `tree` ask the host. To be called after a change of the repository. */
    readonly forget: (repo: Repo) => Effect.Effect<void>
  }
>()("domain/repo/FileTrees") {
  static readonly layer = Layer.effect(
    FileTrees,
    Effect.gen(function* () {
      const host = yield* RepoHost
      const reader = yield* makeReader
      return FileTrees.of({
        tree: Effect.fn("FileTrees.tree")((repo: Repo, readAs: ReadAs = "service", asker?: string) =>
          reader.read(repo, readAs, asker ?? null)
        ),
        file: (repo, path, readAs) =>
          readAs === "service" ? host.readFile(repo, path) : host.readPublicFile(repo, path),
        forget: (repo) => Effect.sync(() => reader.forget(repo))
      })
    })
  )
}

const keyOf = (repo: Repo, readAs: ReadAs) => `${readAs} ${repo.owner}/${repo.name}`.toLowerCase()

const unavailable = (cause: string) =>
  new RepoUnavailable({ operation: "tree", retryable: true, retryAfterMs: null, cause })

const makeReader = Effect.gen(function* () {
  const host = yield* RepoHost
  const scope = yield* Effect.scope
  const cache = new TreeCache()
  const backoff = new HostBackoff()
  /** The read that new callers join, by key. */
  const joinable = new Map<string, PendingRead>()
  /** All pending reads, also those whose callers have left. */
  const pending = new Set<PendingRead>()
  const reads = Semaphore.makeUnsafe(maxConcurrentReads)

  /** A read that `forget` made obsolete only answers its callers: the repository may have changed since it began. */
  const settle = (
    key: string,
    readAs: ReadAs,
    read: PendingRead,
    exit: Exit.Exit<FileTree, ReadFailure>,
    now: number
  ) => {
    if (joinable.get(key) !== read) return
    joinable.delete(key)
    if (Exit.isSuccess(exit)) return cache.set(key, exit.value, read.askedAt)
    const failure = Option.getOrUndefined(Exit.findErrorOption(exit))
    if (failure?._tag === "RepoNotFound") cache.delete(key)
    if (failure?._tag === "RepoUnavailable") backoff.add(key, readAs, failure, now)
  }

  /** Asks for the tree, or for whether the cached one is still current. */
  const askHost = (repo: Repo, readAs: ReadAs, cached: FileTree | undefined) => {
    const tree = readAs === "service" ? host.tree : host.publicTree
    return Effect.flatMap(
      reads.withPermits(1)(tree(repo, cached?.revision ?? null)),
      Option.match({
        onSome: Effect.succeed,
        onNone: () =>
          cached === undefined
            ? Effect.die(new Error("RepoHost.tree returned none although no revision was given"))
            : Effect.succeed(cached)
      })
    )
  }

  /** Reads a tree in a fiber of its own, so that no caller can interrupt it for the others. */
  const start = Effect.fnUntraced(function* (repo: Repo, readAs: ReadAs, asker: string | null, now: number) {
    const key = keyOf(repo, readAs)
    const unanswered = asker === null ? 0 : Array.from(pending).filter((one) => one.asker === asker).length
    if (unanswered >= maxPendingPerAsker) return yield* unavailable("other trees of the account are still being read")
    const read: PendingRead = { askedAt: now, asker, answer: yield* Deferred.make<FileTree, ReadFailure>() }
    joinable.set(key, read)
    pending.add(read)
    yield* Effect.interruptible(askHost(repo, readAs, cache.get(key)?.tree)).pipe(
      Effect.tapError((failure) =>
        failure._tag === "RepoUnavailable"
          ? Effect.logWarning("Failed to read a repository's tree", failure)
          : Effect.void
      ),
      Effect.exit,
      Effect.tap(() => Effect.sync(() => pending.delete(read))),
      Effect.tap((exit) => Effect.map(monotonicMillis, (at) => settle(key, readAs, read, exit, at))),
      Effect.flatMap((exit) => Deferred.done(read.answer, exit)),
      Effect.forkIn(scope)
    )
    return read
  }, Effect.uninterruptible)

  const read = Effect.fnUntraced(function* (repo: Repo, readAs: ReadAs, asker: string | null) {
    const key = keyOf(repo, readAs)
    const now = yield* monotonicMillis
    const cached = cache.get(key)
    if (cached !== undefined && now < cached.readAt + freshMs) return cached.tree
    const failure = backoff.failureAt(key, readAs, now)
    if (failure !== undefined) return yield* failure
    const { answer, askedAt } = joinable.get(key) ?? (yield* start(repo, readAs, asker, now))
    const timedOut = Effect.suspend(() => unavailable("no answer yet"))
    if (now >= askedAt + hostTimeoutMs) return yield* timedOut
    return yield* Deferred.await(answer).pipe(
      Effect.timeoutOrElse({ duration: askedAt + hostTimeoutMs - now, orElse: () => timedOut })
    )
  })

  const forget = (repo: Repo) => {
    for (const readAs of ["service", "anonymous"] as const) {
      const key = keyOf(repo, readAs)
      joinable.delete(key)
      backoff.delete(key)
      cache.backdate(key, -freshMs)
    }
  }

  return { read, forget }
})
