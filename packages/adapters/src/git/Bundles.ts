/** Commits as bundles: one file that any git reads, so that they cross into a sandbox without a network or a credential. */
import type { Fetched } from "@castellan/domain/repo/RepoHost.ts"
import { BranchName, CommitId } from "@castellan/domain/repo/Repo.ts"
import { Effect, Option, Schema, type Scope, type Stream } from "effect"
import { join } from "node:path"
import * as Git from "./Git.ts"

/** The bundle is damaged, is none, or has not the branch. */
export class BundleUnreadable extends Schema.TaggedError<BundleUnreadable>()("BundleUnreadable", {
  stderr: Schema.String
}) {}

/** The branch has commits that the pushed one does not contain. */
export class NotForward extends Schema.TaggedError<NotForward>()("NotForward", {}) {}

/** Where a repository of another place is, and what is said to be let in. */
export interface Remote {
  readonly url: string
  readonly authorization?: Git.GitOptions["authorization"]
}

const refOf = (branch: BranchName) => `refs/heads/${branch}`

const newRepository = Effect.gen(function* () {
  const repository = join(yield* Git.workspace, "repository.git")
  yield* Git.text(["init", "--bare", "--quiet", repository])
  return repository
})

/** A branch of a repository on this disk: the default one if none is named, none where it has no commit. */
export const branchOf = Effect.fnUntraced(function* (repository: string, branch: BranchName | null) {
  const name = branch ?? BranchName.make(yield* Git.text(["symbolic-ref", "--short", "HEAD"], { repository }))
  const commit = yield* Git.text(["for-each-ref", "--format=%(objectname)", refOf(name)], { repository })
  return commit === "" ? Option.none() : Option.some({ branch: name, commit: CommitId.make(commit) })
})

/** A branch of a repository on this disk as a bundle, without what `have` brings along. */
export const fetched = Effect.fnUntraced(function* (
  repository: string,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId>
): Effect.fn.Return<Option.Option<Fetched>, Git.GitFailed, Scope.Scope> {
  const head = yield* branchOf(repository, branch)
  if (Option.isNone(head)) return Option.none()
  const known: Array<string> = []
  for (const commit of have) {
    const type = yield* Effect.option(Git.text(["cat-file", "-t", commit], { repository }))
    if (Option.isSome(type) && type.value === "commit") known.push(`^${commit}`)
  }
  const ref = refOf(head.value.branch)
  const news = yield* Git.text(["rev-list", "--max-count=1", ref, ...known, "--"], { repository })
  if (news === "") return Option.some({ ...head.value, bundle: Option.none() })
  const file = join(yield* Git.workspace, "bundle")
  yield* Git.text(["bundle", "create", "--quiet", file, ref, ...known], { repository })
  return Option.some({ ...head.value, bundle: Option.some(Git.load(file)) })
})

/** The branch that a remote names, or its default one, copied to a reference here; none where it has no commit. */
const copied = Effect.fnUntraced(function* (
  remote: Remote,
  branch: BranchName | null,
  into: string,
  as: (branch: BranchName) => string
) {
  const { authorization, url } = remote
  const wanted = branch === null ? "HEAD" : refOf(branch)
  const listed = yield* Git.text(["ls-remote", "--symref", "--", url, wanted], { authorization })
  const named = branch ?? /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(listed)?.[1]
  if (named === undefined || !/^[0-9a-f]{40,64}\t/m.test(listed)) return Option.none()
  const name = BranchName.make(named)
  const refs = `+${refOf(name)}:${as(name)}`
  yield* Git.text(["fetch", "--quiet", "--no-tags", "--", url, refs], { repository: into, authorization })
  return Option.some(name)
})

/** A branch of a remote as a bundle, as `fetched` gives it. */
export const fetchedFrom = Effect.fnUntraced(function* (
  remote: Remote,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId>
): Effect.fn.Return<Option.Option<Fetched>, Git.GitFailed, Scope.Scope> {
  const repository = yield* newRepository
  const name = yield* copied(remote, branch, repository, refOf)
  return Option.isNone(name) ? Option.none() : yield* fetched(repository, name.value, have)
})

/** Moves a branch of a repository on this disk forward to where the bundle has it. */
export const push = Effect.fnUntraced(function* <E>(
  repository: string,
  branch: BranchName,
  bundle: Stream.Stream<Uint8Array, E>
): Effect.fn.Return<void, BundleUnreadable | E | Git.GitFailed | NotForward, Scope.Scope> {
  const file = join(yield* Git.workspace, "bundle")
  yield* Git.save(file, bundle)
  const incoming = `refs/incoming/${file.slice(file.lastIndexOf("-") + 1).replaceAll("/", "-")}`
  yield* Git.text(["fetch", "--quiet", "--no-tags", "--", file, `${refOf(branch)}:${incoming}`], { repository }).pipe(
    Effect.catch(({ stderr }) => new BundleUnreadable({ stderr }))
  )
  yield* forward(repository, branch, incoming).pipe(
    Effect.ensuring(Effect.ignore(Git.text(["update-ref", "-d", incoming], { repository })))
  )
})

/** Compare, then set: a branch that moved in between is compared again. */
const forward = Effect.fnUntraced(function* (
  repository: string,
  branch: BranchName,
  incoming: string
): Effect.fn.Return<void, Git.GitFailed | NotForward> {
  const before = yield* branchOf(repository, branch)
  if (Option.isSome(before)) {
    const { commit } = before.value
    if (!(yield* Git.holds(["merge-base", "--is-ancestor", commit, incoming], { repository }))) {
      return yield* new NotForward()
    }
  }
  const expected = Option.isSome(before) ? before.value.commit : "0".repeat(40)
  const to = yield* Git.text(["rev-parse", incoming], { repository })
  yield* Git.text(["update-ref", refOf(branch), to, expected], { repository }).pipe(
    Effect.catch((failed) =>
      Effect.flatMap(branchOf(repository, branch), (after) =>
        Option.getOrUndefined(after)?.commit === expected || (Option.isNone(after) && Option.isNone(before))
          ? Effect.fail(failed)
          : forward(repository, branch, incoming)
      )
    )
  )
})

/** Moves a branch of a remote forward to where the bundle has it. */
export const pushTo = Effect.fnUntraced(function* <E>(
  remote: Remote,
  branch: BranchName,
  bundle: Stream.Stream<Uint8Array, E>
): Effect.fn.Return<void, BundleUnreadable | E | Git.GitFailed | NotForward, Scope.Scope> {
  const { authorization, url } = remote
  const repository = yield* newRepository
  // What the bundle builds on has to be there before it can be read.
  yield* copied(remote, branch, repository, refOf)
  yield* push(repository, branch, bundle)
  const ref = refOf(branch)
  yield* Git.text(["push", "--quiet", "--", url, `${ref}:${ref}`], { repository, authorization }).pipe(
    Effect.catch((failed) =>
      Effect.gen(function* () {
        // Was somebody else first? Then the remote has what this repository has not.
        const theirs = "refs/theirs"
        const there = yield* copied(remote, branch, repository, () => theirs)
        if (Option.isNone(there)) return yield* failed
        const isBehind = yield* Git.holds(["merge-base", "--is-ancestor", theirs, ref], { repository })
        if (!isBehind) return yield* new NotForward()
        const [a, b] = yield* Effect.all([theirs, ref].map((one) => Git.text(["rev-parse", one], { repository })))
        if (a !== b) return yield* failed
      })
    )
  )
})
