import { BranchName, CommitId } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Result, Stream } from "effect"
import type { Clauses } from "../contract.ts"
import type { NewAuthor } from "./Author.ts"
import {
  main,
  otherBranch,
  utf8,
  tagOf,
  withRepo,
  push,
  pushFiles,
  readTree,
  readWholeTree,
  entryLines,
  headOf
} from "./fixtures.ts"

export const pushing = (newAuthor: NewAuthor): Clauses<RepoHost> => ({
  "a push creates a branch and fast-forwards it": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        assert.strictEqual(yield* headOf(repo, main), first)
        // The bundle omits commits that the branch has.
        const left = yield* author.commit({ a: "1", left: "1" }, [first])
        const right = yield* author.commit({ a: "1", right: "1" }, [first])
        const merged = yield* author.commit({ a: "1", left: "1", right: "1" }, [left, right])
        yield* push(repo, main, yield* author.bundle({ [main]: merged }, [first]))
        assert.strictEqual(yield* headOf(repo, main), merged)
        assert.deepStrictEqual(entryLines(yield* readWholeTree(repo)), ["blob a 1", "blob left 1", "blob right 1"])
        // The bundle omits commits that another branch has.
        const aside = yield* author.commit({ a: "aside" }, [merged])
        yield* push(repo, otherBranch, yield* author.bundle({ [otherBranch]: aside }, [merged]))
        assert.deepStrictEqual([yield* headOf(repo, main), yield* headOf(repo, otherBranch)], [merged, aside])
      })
    ),

  "a push that is not a fast-forward is rejected and changes nothing": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        const second = yield* pushFiles(author, repo, { a: "2" }, { parents: [first] })
        const aside = yield* author.commit({ a: "3" }, [first])
        const unrelated = yield* author.commit({ a: "4" })
        for (const commit of [aside, unrelated, first]) {
          const rejected = yield* Effect.flip(push(repo, main, yield* author.bundle({ [main]: commit })))
          assert.deepInclude(rejected, { _tag: "PushRejected", repo, branch: main })
          assert.strictEqual(yield* headOf(repo, main), second)
        }
      })
    ),

  "pushing the current commit of a branch changes nothing": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        const { revision } = yield* readWholeTree(repo)
        yield* push(repo, main, yield* author.bundle({ [main]: first }))
        assert.strictEqual(yield* headOf(repo, main), first)
        assert.isTrue(Option.isNone(yield* readTree(repo, revision)))
      })
    ),

  "one of several concurrent pushes succeeds and the others are rejected": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        const race = Effect.fnUntraced(function* (branch: BranchName, parents: ReadonlyArray<CommitId>) {
          const commits = yield* Effect.forEach(["2", "3", "4", "5"], (a) => author.commit({ a }, parents))
          const bundles = yield* Effect.forEach(commits, (commit) => author.bundle({ [branch]: commit }))
          const results = yield* Effect.forEach(bundles, (bundle) => Effect.result(push(repo, branch, bundle)), {
            concurrency: "unbounded"
          })
          const won = commits.filter((_, n) => Result.isSuccess(results[n]!))
          const tags = results.flatMap((result) => (Result.isFailure(result) ? [result.failure._tag] : []))
          assert.deepStrictEqual(tags, ["PushRejected", "PushRejected", "PushRejected"])
          assert.deepStrictEqual([yield* headOf(repo, branch)], won)
        })
        yield* race(main, [first])
        yield* race(otherBranch, [])
      })
    ),

  "a push moves only the named branch of a bundle with several": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        const second = yield* author.commit({ a: "2" }, [first])
        yield* push(repo, otherBranch, yield* author.bundle({ [main]: second, [otherBranch]: second, third: second }))
        assert.strictEqual(yield* headOf(repo, otherBranch), second)
        assert.strictEqual(yield* headOf(repo, main), first)
        assert.isUndefined(yield* headOf(repo, BranchName.make("third")))
      })
    ),

  "an invalid, damaged or incomplete bundle is refused and changes nothing": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        const missing = yield* author.commit({ a: "1", b: "never pushed" }, [first])
        const second = yield* author.commit({ a: "2", b: "2" }, [missing])
        const whole = yield* author.bundle({ [main]: second })
        const refused = {
          nothing: new Uint8Array(),
          garbage: utf8("# v2 git bundle\nnot at all\n\nPACK"),
          "a half": whole.subarray(0, whole.length / 2),
          "all but the last byte": whole.subarray(0, -1),
          "without the branch": yield* author.bundle({ [otherBranch]: second }),
          "on a commit that is not there": yield* author.bundle({ [main]: second }, [missing])
        }
        for (const [what, bundle] of Object.entries(refused)) {
          assert.strictEqual(yield* tagOf(push(repo, main, bundle)), "BundleRefused", what)
          assert.strictEqual(yield* headOf(repo, main), first, what)
        }
        yield* push(repo, main, whole)
        assert.strictEqual(yield* headOf(repo, main), second)
      })
    ),

  "a push whose bundle stream fails fails with the stream's error and changes nothing": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const bundle = yield* author.bundle({ [main]: yield* author.commit({ a: "1" }) })
        const broken = Stream.concat(Stream.make(bundle), Stream.fail({ _tag: "BrokenOff" as const }))
        assert.strictEqual(yield* tagOf(host.push(repo, main, broken)), "BrokenOff")
        assert.isUndefined(yield* headOf(repo, main))
      })
    )
})
