import { CommitId, Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import type { Clauses } from "../contract.ts"
import type { NewAuthor } from "./Author.ts"
import { main, path, tagOf, named, made, push, pushed, wholeTree, fileText, standing } from "./fixtures.ts"

export const repositories = (newAuthor: NewAuthor): Clauses<RepoHost> => ({
  "a new repository is private and empty, and begins with the branch main": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const repository = yield* host.ensure(repo)
        assert.deepStrictEqual(repository.repo, repo)
        assert.deepStrictEqual([repository.defaultBranch, repository.isPrivate], [main, true])
        assert.deepStrictEqual((yield* wholeTree(repo)).entries, [])
      })
    ),

  "a repository that stands is given back untouched": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const first = yield* host.ensure(repo)
        const commit = yield* pushed(yield* newAuthor, repo, { kept: "here" })
        assert.deepStrictEqual(yield* host.ensure(repo), first)
        assert.strictEqual(yield* standing(repo, main), commit)
        assert.strictEqual(yield* fileText(repo, "kept"), "here")
      })
    ),

  "making a repository ten times at once makes one": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        // Whoever is done first uses it, while others are still at it.
        const first = Effect.andThen(
          host.ensure(repo),
          Effect.asSome(pushed(author, repo, { file: "1" }, { branch: main }))
        )
        const rest = Array.from({ length: 9 }, () => Effect.as(host.ensure(repo), Option.none<CommitId>()))
        const [commit] = yield* Effect.all([first, ...rest], { concurrency: "unbounded" })
        assert.strictEqual(yield* standing(repo, main), Option.getOrThrow(commit!))
      })
    ),

  "find gives the repository of a name, and none where there is none": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        assert.isTrue(Option.isNone(yield* host.find(repo)))
        const repository = yield* host.ensure(repo)
        assert.deepStrictEqual(yield* host.find(repo), Option.some(repository))
      })
    ),

  "names that differ in case alone are of one repository": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const loud = new Repo({ owner: repo.owner, name: RepoName.make(repo.name.toUpperCase()) })
        const commit = yield* pushed(yield* newAuthor, repo, { file: "1" })
        yield* host.ensure(loud)
        assert.isTrue(Option.isSome(yield* host.find(loud)))
        assert.strictEqual(yield* standing(loud, main), commit)
        yield* host.remove(loud)
        assert.isTrue(Option.isNone(yield* host.find(repo)))
      })
    ),

  "remove forgets a repository with its commits, and may be repeated": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        yield* pushed(yield* newAuthor, repo, { file: "1" })
        yield* host.remove(repo)
        yield* host.remove(repo)
        assert.isTrue(Option.isNone(yield* host.find(repo)))
        yield* host.ensure(repo)
        assert.isUndefined(yield* standing(repo, main))
        assert.deepStrictEqual((yield* wholeTree(repo)).entries, [])
      })
    ),

  "a repository that is not there is said to be, whatever is asked of it": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const bundle = yield* author.bundle({ [main]: yield* author.commit({ file: "1" }) })
        assert.strictEqual(yield* tagOf(host.tree(repo, null)), "RepoNotFound")
        assert.strictEqual(yield* tagOf(host.tree(repo, "whatever")), "RepoNotFound")
        assert.strictEqual(yield* tagOf(host.readFile(repo, path("file"))), "RepoNotFound")
        assert.strictEqual(yield* tagOf(host.fetch(repo, null, [], "service")), "RepoNotFound")
        assert.strictEqual(yield* tagOf(host.fetch(repo, main, [], "service")), "RepoNotFound")
        assert.strictEqual(yield* tagOf(push(repo, main, bundle)), "RepoNotFound")
        assert.isTrue(Option.isNone(yield* host.find(repo)))
      })
    )
})
