import { type FileTree, RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { BranchName, CommitId, firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import type { ReadAs } from "@castellan/domain/repo/ReadAs.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { Effect, Option, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import type { Author, Content, Publish } from "./Author.ts"

export const main = firstBranch

export const other = BranchName.make("other/branch")

export const path = (text: string) => RepoPath.make(text)

export const utf8 = (text: string) => new TextEncoder().encode(text)

export const unknownCommit = CommitId.make("0123456789abcdef".repeat(3).slice(0, 40))

export const tagOf = <E extends { readonly _tag: string }, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => error._tag)

/** A repository nobody else has, gone when the promise is over. */
export const named = <A, E, R>(use: (repo: Repo) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const host = yield* RepoHost
    const name = RepoName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
    const repo = new Repo({ owner: host.supports.owner, name })
    return yield* Effect.ensuring(Effect.scoped(use(repo)), Effect.ignore(host.remove(repo)))
  })

export const made = <A, E, R>(use: (repo: Repo) => Effect.Effect<A, E, R>) =>
  named((repo) => Effect.flatMap(RepoHost, (host) => Effect.andThen(host.ensure(repo), use(repo))))

export const push = Effect.fnUntraced(function* (repo: Repo, branch: BranchName, bundle: Uint8Array) {
  const host = yield* RepoHost
  // In pieces, so that nobody counts on its coming as one.
  const pieces = [bundle.subarray(0, 10), bundle.subarray(10, 10), bundle.subarray(10)]
  yield* host.push(repo, branch, Stream.fromIterable(pieces))
})

/** Puts files on a branch. */
export const pushed = Effect.fnUntraced(function* (
  author: Author,
  repo: Repo,
  files: Readonly<Record<string, Content>>,
  { branch = main, parents = [] }: { readonly branch?: BranchName; readonly parents?: ReadonlyArray<CommitId> } = {}
) {
  const commit = yield* author.commit(files, parents)
  yield* push(repo, branch, yield* author.bundle({ [branch]: commit }))
  return commit
})

export const treeOf = Effect.fnUntraced(function* (repo: Repo, known: string | null = null) {
  return yield* (yield* RepoHost).tree(repo, known)
})

export const wholeTree = (repo: Repo) => Effect.map(treeOf(repo), Option.getOrThrow)

/** What a tree has, a line for each entry. */
export const listed = ({ entries }: FileTree) =>
  entries.map(({ path, size, type }) => (size === undefined ? `${type} ${path}` : `${type} ${path} ${size}`)).toSorted()

export const fileText = Effect.fnUntraced(function* (repo: Repo, file: string) {
  return Buffer.from(yield* (yield* RepoHost).readFile(repo, path(file))).toString()
})

/** Where a branch stands, and the bytes of its bundle. */
export const fetched = Effect.fnUntraced(function* (
  repo: Repo,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId> = [],
  readAs: ReadAs = "service"
) {
  const found = Option.getOrThrow(yield* (yield* RepoHost).fetch(repo, branch, have, readAs))
  const pieces = Option.isSome(found.bundle) ? yield* Stream.runCollect(found.bundle.value) : undefined
  return { branch: found.branch, commit: found.commit, bundle: pieces && Uint8Array.from(Buffer.concat(pieces)) }
})

/** Where a branch stands. */
export const standing = (repo: Repo, branch: BranchName | null) =>
  Effect.flatMap(RepoHost, (host) =>
    Effect.map(host.fetch(repo, branch, [], "service"), (found) => Option.getOrUndefined(found)?.commit)
  )

/** A repository that anyone may read, with these files on its default branch; empty if there are none. */
export const published = Effect.fnUntraced(function* <R>(
  author: Author,
  publish: Publish<R>,
  branches: Readonly<Record<string, CommitId>>
) {
  const name = RepoName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
  const repo = new Repo({ owner: RepoOwner.make("somebody"), name })
  yield* publish(repo, yield* author.bundle(branches))
  return repo
})
