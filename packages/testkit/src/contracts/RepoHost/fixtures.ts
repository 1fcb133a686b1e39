import { type FileTree, RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { BranchName, CommitId, firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import type { ReadAs } from "@castellan/domain/repo/ReadAs.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { Effect, Option, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import type { Author, Content, Publish } from "./Author.ts"

export const main = firstBranch

export const otherBranch = BranchName.make("other/branch")

export const path = (text: string) => RepoPath.make(text)

export const utf8 = (text: string) => new TextEncoder().encode(text)

export const unknownCommit = CommitId.make("0123456789abcdef".repeat(3).slice(0, 40))

export const tagOf = <E extends { readonly _tag: string }, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => error._tag)

/** A repository name that no other test uses; the repository is removed when the clause ends. */
export const withName = <A, E, R>(use: (repo: Repo) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const host = yield* RepoHost
    const name = RepoName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
    const repo = new Repo({ owner: host.supports.owner, name })
    return yield* Effect.ensuring(Effect.scoped(use(repo)), Effect.ignore(host.remove(repo)))
  })

export const withRepo = <A, E, R>(use: (repo: Repo) => Effect.Effect<A, E, R>) =>
  withName((repo) => Effect.flatMap(RepoHost, (host) => Effect.andThen(host.ensure(repo), use(repo))))

export const push = Effect.fnUntraced(function* (repo: Repo, branch: BranchName, bundle: Uint8Array) {
  const host = yield* RepoHost
  // In several chunks, one of them empty, so that no host relies on a single chunk.
  const pieces = [bundle.subarray(0, 10), bundle.subarray(10, 10), bundle.subarray(10)]
  yield* host.push(repo, branch, Stream.fromIterable(pieces))
})

/** Commits files and pushes the commit to a branch. */
export const pushFiles = Effect.fnUntraced(function* (
  author: Author,
  repo: Repo,
  files: Readonly<Record<string, Content>>,
  { branch = main, parents = [] }: { readonly branch?: BranchName; readonly parents?: ReadonlyArray<CommitId> } = {}
) {
  const commit = yield* author.commit(files, parents)
  yield* push(repo, branch, yield* author.bundle({ [branch]: commit }))
  return commit
})

export const readTree = Effect.fnUntraced(function* (repo: Repo, known: string | null = null) {
  return yield* (yield* RepoHost).tree(repo, known)
})

export const readWholeTree = (repo: Repo) => Effect.map(readTree(repo), Option.getOrThrow)

/** One line for each entry of a tree. */
export const entryLines = ({ entries }: FileTree) =>
  entries.map(({ path, size, type }) => (size === undefined ? `${type} ${path}` : `${type} ${path} ${size}`)).toSorted()

export const readText = Effect.fnUntraced(function* (repo: Repo, file: string) {
  return Buffer.from(yield* (yield* RepoHost).readFile(repo, path(file))).toString()
})

/** The head of a branch and the bytes of its bundle. */
export const fetchBundle = Effect.fnUntraced(function* (
  repo: Repo,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId> = [],
  readAs: ReadAs = "service"
) {
  const found = Option.getOrThrow(yield* (yield* RepoHost).fetch(repo, branch, have, readAs))
  const pieces = Option.isSome(found.bundle) ? yield* Stream.runCollect(found.bundle.value) : undefined
  return { branch: found.branch, commit: found.commit, bundle: pieces && Uint8Array.from(Buffer.concat(pieces)) }
})

/** The head of a branch. */
export const headOf = (repo: Repo, branch: BranchName | null) =>
  Effect.flatMap(RepoHost, (host) =>
    Effect.map(host.fetch(repo, branch, [], "service"), (found) => Option.getOrUndefined(found)?.commit)
  )

/** A public repository with these branches. */
export const publishRepo = Effect.fnUntraced(function* <R>(
  author: Author,
  publish: Publish<R>,
  branches: Readonly<Record<string, CommitId>>
) {
  const name = RepoName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
  const repo = new Repo({ owner: RepoOwner.make("somebody"), name })
  yield* publish(repo, yield* author.bundle(branches))
  return repo
})
