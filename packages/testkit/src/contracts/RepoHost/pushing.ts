import { BranchName, CommitId } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Result, Stream } from "effect"
import type { Clauses } from "../contract.ts"
import type { NewAuthor } from "./Author.ts"
import { main, other, utf8, tagOf, made, push, pushed, treeOf, wholeTree, listed, standing } from "./fixtures.ts"

export const pushing = (newAuthor: NewAuthor): Clauses<RepoHost> => ({
  "a push makes a branch, and moves it forward": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        assert.strictEqual(yield* standing(repo, main), first)
        // What the host has need not be sent again.
        const left = yield* author.commit({ a: "1", left: "1" }, [first])
        const right = yield* author.commit({ a: "1", right: "1" }, [first])
        const merged = yield* author.commit({ a: "1", left: "1", right: "1" }, [left, right])
        yield* push(repo, main, yield* author.bundle({ [main]: merged }, [first]))
        assert.strictEqual(yield* standing(repo, main), merged)
        assert.deepStrictEqual(listed(yield* wholeTree(repo)), ["blob a 1", "blob left 1", "blob right 1"])
        // Nor if another branch has it.
        const aside = yield* author.commit({ a: "aside" }, [merged])
        yield* push(repo, other, yield* author.bundle({ [other]: aside }, [merged]))
        assert.deepStrictEqual([yield* standing(repo, main), yield* standing(repo, other)], [merged, aside])
      })
    ),

  "a push that the branch's commits are not in is rejected, and changes nothing": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const second = yield* pushed(author, repo, { a: "2" }, { parents: [first] })
        const aside = yield* author.commit({ a: "3" }, [first])
        const unrelated = yield* author.commit({ a: "4" })
        for (const commit of [aside, unrelated, first]) {
          const rejected = yield* Effect.flip(push(repo, main, yield* author.bundle({ [main]: commit })))
          assert.deepInclude(rejected, { _tag: "PushRejected", repo, branch: main })
          assert.strictEqual(yield* standing(repo, main), second)
        }
      })
    ),

  "pushing the commit that a branch stands at changes nothing": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const { revision } = yield* wholeTree(repo)
        yield* push(repo, main, yield* author.bundle({ [main]: first }))
        assert.strictEqual(yield* standing(repo, main), first)
        assert.isTrue(Option.isNone(yield* treeOf(repo, revision)))
      })
    ),

  "of many that push at once one is first, and the others are told so": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const race = Effect.fnUntraced(function* (branch: BranchName, parents: ReadonlyArray<CommitId>) {
          const commits = yield* Effect.forEach(["2", "3", "4", "5"], (a) => author.commit({ a }, parents))
          const bundles = yield* Effect.forEach(commits, (commit) => author.bundle({ [branch]: commit }))
          const results = yield* Effect.forEach(bundles, (bundle) => Effect.result(push(repo, branch, bundle)), {
            concurrency: "unbounded"
          })
          const won = commits.filter((_, n) => Result.isSuccess(results[n]!))
          const told = results.flatMap((result) => (Result.isFailure(result) ? [result.failure._tag] : []))
          assert.deepStrictEqual(told, ["PushRejected", "PushRejected", "PushRejected"])
          assert.deepStrictEqual([yield* standing(repo, branch)], won)
        })
        yield* race(main, [first])
        yield* race(other, [])
      })
    ),

  "a push moves one branch, whatever else the bundle has": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const second = yield* author.commit({ a: "2" }, [first])
        yield* push(repo, other, yield* author.bundle({ [main]: second, [other]: second, third: second }))
        assert.strictEqual(yield* standing(repo, other), second)
        assert.strictEqual(yield* standing(repo, main), first)
        assert.isUndefined(yield* standing(repo, BranchName.make("third")))
      })
    ),

  "what is no bundle, is damaged, has not the branch or not what it builds on, is refused and changes nothing": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const missing = yield* author.commit({ a: "1", b: "never pushed" }, [first])
        const second = yield* author.commit({ a: "2", b: "2" }, [missing])
        const whole = yield* author.bundle({ [main]: second })
        const refused = {
          nothing: new Uint8Array(),
          garbage: utf8("# v2 git bundle\nnot at all\n\nPACK"),
          "a half": whole.subarray(0, whole.length / 2),
          "all but the last byte": whole.subarray(0, -1),
          "without the branch": yield* author.bundle({ [other]: second }),
          "on a commit that is not there": yield* author.bundle({ [main]: second }, [missing])
        }
        for (const [what, bundle] of Object.entries(refused)) {
          assert.strictEqual(yield* tagOf(push(repo, main, bundle)), "BundleRefused", what)
          assert.strictEqual(yield* standing(repo, main), first, what)
        }
        yield* push(repo, main, whole)
        assert.strictEqual(yield* standing(repo, main), second)
      })
    ),

  "a bundle that breaks off fails with its own error, and changes nothing": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const bundle = yield* author.bundle({ [main]: yield* author.commit({ a: "1" }) })
        const broken = Stream.concat(Stream.make(bundle), Stream.fail({ _tag: "BrokenOff" as const }))
        assert.strictEqual(yield* tagOf(host.push(repo, main, broken)), "BrokenOff")
        assert.isUndefined(yield* standing(repo, main))
      })
    )
})
