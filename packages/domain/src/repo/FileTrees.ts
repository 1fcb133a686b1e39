import { Clock, Context, Effect, Layer, Option, Semaphore } from "effect"
import type { FileTree, RepoPath } from "./FileTree.ts"
import type { Repo } from "./Repo.ts"
import {
  type RepoFileNotFound,
  type RepoFileTooLarge,
  RepoHost,
  type RepoNotFound,
  type RepoUnavailable
} from "./RepoHost.ts"

/** How long a tree is shown without asking whether it is still the one, in milliseconds. */
export const freshFor = 15_000

/** Entries of all trees that are kept in memory. */
const entriesKept = 500_000

interface Known {
  readonly tree: FileTree
  readonly askedAt: number
}

/** What is in repositories, on their default branches. */
export class FileTrees extends Context.Service<
  FileTrees,
  {
    /**
     * The repository's tree, at most `freshFor` old. One question to the host at most, however many ask at once, and
     * none while it is fresh.
     */
    readonly tree: (repo: Repo) => Effect.Effect<FileTree, RepoNotFound | RepoUnavailable>
    /** The bytes of a file. */
    readonly file: (
      repo: Repo,
      path: RepoPath
    ) => Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | RepoNotFound | RepoUnavailable>
    /** Lets the next look ask the host again: for whoever has just changed the repository. */
    readonly forget: (repo: Repo) => Effect.Effect<void>
  }
>()("domain/repo/FileTrees") {
  static readonly layer = Layer.effect(
    FileTrees,
    Effect.gen(function* () {
      const host = yield* RepoHost
      /** In the order of their use, so that the first is the one to go. */
      const known = new Map<string, Known>()
      const asking = new Map<string, { readonly turn: Semaphore.Semaphore; users: number }>()
      let entries = 0

      const keyOf = (repo: Repo) => `${repo.owner}/${repo.name}`.toLowerCase()

      const drop = (key: string) => {
        entries -= known.get(key)?.tree.entries.length ?? 0
        known.delete(key)
      }

      const keep = (key: string, one: Known) => {
        drop(key)
        known.set(key, one)
        entries += one.tree.entries.length
        for (const oldest of known.keys()) {
          if (entries <= entriesKept || oldest === key) break
          drop(oldest)
        }
      }

      const look = Effect.fnUntraced(function* (repo: Repo, key: string) {
        const before = known.get(key)
        const now = yield* Clock.currentTimeMillis
        if (before !== undefined && now < before.askedAt + freshFor) return before.tree
        const news = yield* host.tree(repo, before?.tree.revision ?? null)
        const tree = Option.isSome(news) ? news.value : before?.tree
        if (tree === undefined) return yield* Effect.die(new Error("a tree nobody has seen is said to be the same"))
        keep(key, { tree, askedAt: now })
        return tree
      })

      const inTurn = <A, E>(key: string, effect: Effect.Effect<A, E>): Effect.Effect<A, E> =>
        Effect.acquireUseRelease(
          Effect.sync(() => {
            const entry = asking.get(key) ?? { turn: Semaphore.makeUnsafe(1), users: 0 }
            entry.users++
            asking.set(key, entry)
            return entry
          }),
          ({ turn }) => turn.withPermits(1)(effect),
          (entry) =>
            Effect.sync(() => {
              if (--entry.users === 0) asking.delete(key)
            })
        )

      return FileTrees.of({
        tree: Effect.fn("FileTrees.tree")(function* (repo: Repo) {
          const key = keyOf(repo)
          return yield* inTurn(key, look(repo, key))
        }),
        file: host.readFile,
        forget: (repo) =>
          Effect.sync(() => {
            const key = keyOf(repo)
            const one = known.get(key)
            if (one !== undefined) known.set(key, { ...one, askedAt: -freshFor })
          })
      })
    })
  )
}
