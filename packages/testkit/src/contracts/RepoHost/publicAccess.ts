import { BranchName, Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Result } from "effect"
import type { Clauses } from "../contract.ts"
import type { Publish, NewAuthor } from "./Author.ts"
import {
  main,
  otherBranch,
  path,
  unknownCommit,
  tagOf,
  withRepo,
  pushFiles,
  fetchBundle,
  publishRepo
} from "./fixtures.ts"

export const publicAccess = <R>(newAuthor: NewAuthor, publish: Publish<R>): Clauses<R | RepoHost> => ({
  "an anonymous fetch of a public repository works like a fetch as the service": () =>
    Effect.scoped(
      Effect.gen(function* () {
        const author = yield* newAuthor
        const first = yield* author.commit({ a: "1" })
        const second = yield* author.commit({ a: "2" }, [first])
        const aside = yield* author.commit({ a: "aside" }, [first])
        const repo = yield* publishRepo(author, publish, { [main]: second, [otherBranch]: aside })
        const reader = yield* newAuthor
        const whole = yield* fetchBundle(repo, null, [], "anonymous")
        assert.deepStrictEqual([whole.branch, whole.commit], [main, second])
        assert.deepStrictEqual(yield* reader.unbundle(whole.bundle!), { [main]: second })
        assert.deepStrictEqual(yield* reader.files(second), { a: "2" })
        const rest = yield* fetchBundle(repo, otherBranch, [unknownCommit, second], "anonymous")
        assert.deepStrictEqual([rest.branch, rest.commit], [otherBranch, aside])
        assert.isTrue(Result.isFailure(yield* Effect.result((yield* newAuthor).unbundle(rest.bundle!))))
        assert.deepStrictEqual(yield* reader.unbundle(rest.bundle!), { [otherBranch]: aside })
        assert.isUndefined((yield* fetchBundle(repo, main, [second], "anonymous")).bundle)
        const host = yield* RepoHost
        assert.isTrue(Option.isNone(yield* host.fetch(repo, BranchName.make("none"), [], "anonymous")))
      })
    ),

  "an anonymous fetch of a private or missing repository fails with RepoNotFound": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const commit = yield* pushFiles(yield* newAuthor, repo, { secret: "1" })
        const nowhere = new Repo({ owner: repo.owner, name: RepoName.make(`${repo.name}-not`) })
        for (const one of [repo, nowhere]) {
          for (const branch of [null, main]) {
            assert.strictEqual(yield* tagOf(host.fetch(one, branch, [commit], "anonymous")), "RepoNotFound")
          }
        }
      })
    ),

  "anonymous reads succeed for a public repository and fail for a private or missing one": () =>
    withRepo(
      Effect.fnUntraced(function* (mine) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const commit = yield* author.commit({ "d/a": "1", b: { link: "d/a" } })
        const repo = yield* publishRepo(author, publish, { [main]: commit })
        assert.isTrue(yield* host.isPublic(repo))
        const tree = Option.getOrThrow(yield* host.publicTree(repo, null))
        assert.deepStrictEqual(tree.entries.map((entry) => `${entry.type} ${entry.path}`).toSorted(), [
          "blob b",
          "blob d/a",
          "tree d"
        ])
        assert.isTrue(Option.isNone(yield* host.publicTree(repo, tree.revision)))
        for (const file of ["d/a", "b"]) {
          assert.strictEqual(Buffer.from(yield* host.readPublicFile(repo, path(file))).toString(), "1")
        }
        for (const file of ["d", "none"]) {
          assert.strictEqual(yield* tagOf(host.readPublicFile(repo, path(file))), "RepoFileNotFound")
        }
        yield* pushFiles(author, mine, { secret: "1" })
        const nowhere = new Repo({ owner: repo.owner, name: RepoName.make(`${repo.name}-not`) })
        for (const one of [mine, nowhere]) {
          assert.isFalse(yield* host.isPublic(one))
          assert.strictEqual(yield* tagOf(host.publicTree(one, null)), "RepoNotFound")
          assert.strictEqual(yield* tagOf(host.readPublicFile(one, path("secret"))), "RepoNotFound")
        }
      })
    )
})
