import { emptyTree, gatherTree, type RepoPath, type TreeLimits, treeLimits } from "@castellan/domain/repo/FileTree.ts"
import type { ReadAs } from "@castellan/domain/repo/ReadAs.ts"
import {
  BranchName,
  type CommitId,
  firstBranch,
  type Repo,
  Repository,
  RepoOwner
} from "@castellan/domain/repo/Repo.ts"
import {
  BundleRefused,
  maxFileBytes,
  PushRejected,
  RepoFileNotFound,
  RepoFileTooLarge,
  RepoHost,
  RepoNotFound
} from "@castellan/domain/repo/RepoHost.ts"
import { Context, Effect, Layer, Option, Stream } from "effect"
import * as MemoryGit from "./MemoryGit.ts"

interface StoredRepository {
  readonly repository: Repository
  readonly branches: Map<string, CommitId>
  commits: MemoryGit.Commits
}

/** A handle for tests on the state of the host. */
export class MemoryRepos extends Context.Service<
  MemoryRepos,
  {
    /** All repositories. */
    readonly repos: () => ReadonlyArray<Repo>
    /** The head of a branch, by default of the default branch; undefined if it has no commit. */
    readonly commit: (repo: Repo, branch?: BranchName) => MemoryGit.MemoryCommit | undefined
    /** Pushes the branches of a bundle to a public repository, which is created if it is missing. */
    readonly publish: (repo: Repo, bundle: Uint8Array) => Effect.Effect<void>
    /** The number of calls that the host received. */
    readonly calls: () => number
  }
>()("testkit/MemoryRepos") {}

/** The most links that are followed in a row. */
const links = 5

/** The file at a path after following links; undefined if there is none. */
const fileAt = (files: MemoryGit.Files, path: string, follow = links): MemoryGit.MemoryFile | undefined => {
  const found = files.get(path)
  if (found?.kind !== "link") return found?.kind === "file" ? found : undefined
  const target = Buffer.from(found.bytes).toString()
  const parts = path.split("/").slice(0, -1)
  for (const part of target.split("/")) {
    if (part === ".." && parts.length === 0) return undefined
    if (part === "..") parts.pop()
    else if (part !== ".") parts.push(part)
  }
  return follow > 0 ? fileAt(files, parts.join("/"), follow - 1) : undefined
}

/** The default branch: an existing one if the repository has a branch. */
const defaultBranchOf = ({ branches, repository: { defaultBranch } }: StoredRepository): BranchName =>
  branches.has(defaultBranch) ? defaultBranch : BranchName.make([...branches.keys()].sort()[0] ?? defaultBranch)

/** Repositories in memory, with the bundles of `MemoryGit` and the given limits on trees. */
export const layerWith = (options: { readonly treeLimits: TreeLimits }) =>
  Layer.effectContext(
    Effect.sync(() => {
      const all = new Map<string, StoredRepository>()
      const published = new Map<string, StoredRepository>()
      let calls = 0

      const counted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
        Effect.suspend(() => {
          calls++
          return effect
        })

      const keyOf = ({ name, owner }: Repo) => `${owner}/${name}`.toLowerCase()

      const get = (repo: Repo, readAs: ReadAs = "service") =>
        Effect.suspend(() => {
          const kept = (readAs === "service" ? all : published).get(keyOf(repo))
          return kept === undefined ? Effect.fail(new RepoNotFound({ repo })) : Effect.succeed(kept)
        })

      const ensured = (repo: Repo): StoredRepository => {
        const repository = new Repository({ repo, defaultBranch: firstBranch, isPrivate: true })
        const kept = all.get(keyOf(repo)) ?? { repository, branches: new Map(), commits: new Map() }
        all.set(keyOf(repo), kept)
        return kept
      }

      const headOf = (kept: StoredRepository, branch = defaultBranchOf(kept)) => {
        const commit = kept.branches.get(branch)
        return commit === undefined ? undefined : kept.commits.get(commit)
      }

      const treeIn = (readAs: ReadAs) =>
        Effect.fnUntraced(function* (repo: Repo, known: string | null) {
          const head = headOf(yield* get(repo, readAs))
          const revision = head?.id ?? "empty"
          if (known === revision) return Option.none()
          if (head === undefined) return Option.some(emptyTree(revision))
          const gathering = gatherTree(options.treeLimits)
          for (const entry of MemoryGit.entriesOf(head)) gathering.add(entry)
          return Option.some(gathering.tree(revision))
        }, counted)

      const fileIn = (readAs: ReadAs) =>
        Effect.fnUntraced(function* (repo: Repo, path: RepoPath) {
          const file = fileAt(headOf(yield* get(repo, readAs))?.files ?? new Map(), path)
          if (file === undefined) return yield* new RepoFileNotFound({ path })
          return file.bytes.length > maxFileBytes ? yield* new RepoFileTooLarge({ path }) : file.bytes
        }, counted)

      const host = RepoHost.of({
        supports: {
          name: "memory",
          url: "https://repositories.memory.test",
          formerUrl: "file:///var/lib/memory/repositories",
          owner: RepoOwner.make("castellan"),
          publicUrl: "https://public.memory.test"
        },
        ensure: (repo) => counted(Effect.sync(() => ensured(repo).repository)),
        find: (repo) =>
          counted(
            Effect.map(
              Effect.option(get(repo)),
              Option.map((kept) => new Repository({ ...kept.repository, defaultBranch: defaultBranchOf(kept) }))
            )
          ),
        remove: (repo) => counted(Effect.sync(() => void all.delete(keyOf(repo)))),
        tree: treeIn("service"),
        readFile: fileIn("service"),
        isPublic: (repo) => counted(Effect.isSuccess(get(repo, "anonymous"))),
        publicTree: treeIn("anonymous"),
        readPublicFile: fileIn("anonymous"),
        fetch: Effect.fnUntraced(function* (repo, named, have, readAs) {
          const kept = yield* get(repo, readAs)
          const branch = named ?? defaultBranchOf(kept)
          const head = headOf(kept, branch)
          if (head === undefined) return Option.none()
          const bundle = MemoryGit.bundleOf(kept.commits, branch, head.id, have)
          return Option.some({
            branch,
            commit: head.id,
            bundle: Option.map(bundle, (bundle) => Stream.sync(() => MemoryGit.encode(bundle)))
          })
        }, counted),
        push: <E>(repo: Repo, branch: BranchName, bundle: Stream.Stream<Uint8Array, E>) =>
          counted(
            Effect.gen(function* () {
              yield* get(repo)
              const bytes = Buffer.concat(yield* Stream.runCollect(bundle))
              const kept = yield* get(repo)
              const read = MemoryGit.decode(bytes)
              const to = Option.flatMap(read, ({ branches }) => Option.fromUndefinedOr(branches[branch]))
              const commits = Option.flatMap(read, (read) => MemoryGit.unbundled(kept.commits, read))
              if (Option.isNone(to) || Option.isNone(commits)) return yield* new BundleRefused({ cause: "no bundle" })
              const from = kept.branches.get(branch)
              if (from !== undefined && !MemoryGit.isAncestor(commits.value, from, to.value)) {
                return yield* new PushRejected({ repo, branch })
              }
              kept.commits = commits.value
              kept.branches.set(branch, to.value)
            })
          )
      })

      const handle = MemoryRepos.of({
        repos: () => Array.from(all.values(), ({ repository }) => repository.repo),
        commit: (repo, branch) => {
          const kept = all.get(keyOf(repo))
          return kept && headOf(kept, branch)
        },
        publish: (repo, bytes) =>
          Effect.sync(() => {
            const bundle = Option.getOrThrow(MemoryGit.decode(bytes))
            const kept = published.get(keyOf(repo)) ?? {
              repository: new Repository({ repo, defaultBranch: firstBranch, isPrivate: false }),
              branches: new Map(),
              commits: new Map()
            }
            kept.commits = Option.getOrThrow(MemoryGit.unbundled(kept.commits, bundle))
            for (const [branch, commit] of Object.entries(bundle.branches)) kept.branches.set(branch, commit)
            published.set(keyOf(repo), kept)
          }),
        calls: () => calls
      })
      return Context.make(RepoHost, host).pipe(Context.add(MemoryRepos, handle))
    })
  )

/** Repositories in memory with the default limits on trees. */
export const layer = layerWith({ treeLimits })
