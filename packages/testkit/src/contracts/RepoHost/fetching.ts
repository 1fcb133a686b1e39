import { BranchName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Result, Stream } from "effect"
import type { Clauses } from "../contract.ts"
import type { NewAuthor } from "./Author.ts"
import { main, otherBranch, unknownCommit, withRepo, pushFiles, fetchBundle } from "./fixtures.ts"

export const fetching = (newAuthor: NewAuthor): Clauses<RepoHost> => ({
  "fetch returns a branch with all its commits, and the default branch if none is named": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        const second = yield* pushFiles(author, repo, { a: "2" }, { parents: [first] })
        const aside = yield* pushFiles(author, repo, { a: "1", b: "1" }, { branch: otherBranch, parents: [first] })
        for (const [asked, branch, commit] of [
          [null, main, second],
          [main, main, second],
          [otherBranch, otherBranch, aside]
        ] as const) {
          const reader = yield* newAuthor
          const found = yield* fetchBundle(repo, asked)
          assert.deepStrictEqual([found.branch, found.commit], [branch, commit])
          assert.deepStrictEqual(yield* reader.unbundle(found.bundle!), { [branch]: commit })
          assert.deepStrictEqual(yield* reader.files(first), { a: "1" })
          assert.deepStrictEqual(yield* reader.files(commit), branch === main ? { a: "2" } : { a: "1", b: "1" })
        }
      })
    ),

  "fetch returns none for an empty repository or an unknown branch": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        for (const branch of [null, main]) assert.isTrue(Option.isNone(yield* host.fetch(repo, branch, [], "service")))
        const commit = yield* pushFiles(author, repo, { a: "1" })
        yield* pushFiles(author, repo, { a: "2" }, { branch: otherBranch, parents: [commit] })
        // A prefix or a suffix of a branch name does not name the branch.
        for (const branch of ["none", "other", "branch", "mai", "heads/main"].map((name) => BranchName.make(name))) {
          assert.isTrue(Option.isNone(yield* host.fetch(repo, branch, [commit], "service")), branch)
        }
      })
    ),

  "a bundle omits the commits that the caller has and ignores unknown ids": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1", b: "1" })
        const reader = yield* newAuthor
        yield* reader.unbundle((yield* fetchBundle(repo, main)).bundle!)
        const second = yield* pushFiles(author, repo, { a: "2", b: "1" }, { parents: [first] })
        const { bundle, commit } = yield* fetchBundle(repo, main, [unknownCommit, first])
        assert.strictEqual(commit, second)
        // Only an author who has the first commit can read the bundle.
        assert.isTrue(Result.isFailure(yield* Effect.result((yield* newAuthor).unbundle(bundle!))))
        assert.deepStrictEqual(yield* reader.unbundle(bundle!), { [main]: second })
        assert.deepStrictEqual(yield* reader.files(second), { a: "2", b: "1" })
        const whole = yield* fetchBundle(repo, main, [unknownCommit])
        assert.deepStrictEqual(yield* (yield* newAuthor).unbundle(whole.bundle!), { [main]: second })
      })
    ),

  "fetch returns no bundle if the caller has every commit": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        assert.deepStrictEqual(yield* fetchBundle(repo, main, [first]), {
          branch: main,
          commit: first,
          bundle: undefined
        })
      })
    ),

  "a bundle can be read until its scope closes, even if the repository is removed": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        const found = Option.getOrThrow(yield* host.fetch(repo, null, [], "service"))
        yield* pushFiles(author, repo, { a: "2" }, { parents: [first] })
        yield* host.remove(repo)
        const bundle = Buffer.concat(yield* Stream.runCollect(Option.getOrThrow(found.bundle)))
        assert.deepStrictEqual(yield* (yield* newAuthor).unbundle(bundle), { [main]: first })
      })
    )
})
