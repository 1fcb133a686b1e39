import { CommitId, Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import type { Clauses } from "../contract.ts"
import type { NewAuthor } from "./Author.ts"
import { main, path, tagOf, withName, withRepo, push, pushFiles, readWholeTree, readText, headOf } from "./fixtures.ts"

export const repositories = (newAuthor: NewAuthor): Clauses<RepoHost> => ({
  "a new repository is private and empty and its default branch is main": () =>
    withName(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const repository = yield* host.ensure(repo)
        assert.deepStrictEqual(repository.repo, repo)
        assert.deepStrictEqual([repository.defaultBranch, repository.isPrivate], [main, true])
        assert.deepStrictEqual((yield* readWholeTree(repo)).entries, [])
      })
    ),

  "ensure returns an existing repository unchanged": () =>
    withName(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const first = yield* host.ensure(repo)
        const commit = yield* pushFiles(yield* newAuthor, repo, { kept: "here" })
        assert.deepStrictEqual(yield* host.ensure(repo), first)
        assert.strictEqual(yield* headOf(repo, main), commit)
        assert.strictEqual(yield* readText(repo, "kept"), "here")
      })
    ),

  "concurrent ensures of one repository make one repository": () =>
    withName(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        // The first caller pushes while the others still create the repository.
        const first = Effect.andThen(
          host.ensure(repo),
          Effect.asSome(pushFiles(author, repo, { file: "1" }, { branch: main }))
        )
        const rest = Array.from({ length: 9 }, () => Effect.as(host.ensure(repo), Option.none<CommitId>()))
        const [commit] = yield* Effect.all([first, ...rest], { concurrency: "unbounded" })
        assert.strictEqual(yield* headOf(repo, main), Option.getOrThrow(commit!))
      })
    ),

  "find returns the repository with a name, or none": () =>
    withName(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        assert.isTrue(Option.isNone(yield* host.find(repo)))
        const repository = yield* host.ensure(repo)
        assert.deepStrictEqual(yield* host.find(repo), Option.some(repository))
      })
    ),

  "names that differ only in case name one repository": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const loud = new Repo({ owner: repo.owner, name: RepoName.make(repo.name.toUpperCase()) })
        const commit = yield* pushFiles(yield* newAuthor, repo, { file: "1" })
        yield* host.ensure(loud)
        assert.isTrue(Option.isSome(yield* host.find(loud)))
        assert.strictEqual(yield* headOf(loud, main), commit)
        yield* host.remove(loud)
        assert.isTrue(Option.isNone(yield* host.find(repo)))
      })
    ),

  "remove deletes a repository with its commits, and can be repeated": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        yield* pushFiles(yield* newAuthor, repo, { file: "1" })
        yield* host.remove(repo)
        yield* host.remove(repo)
        assert.isTrue(Option.isNone(yield* host.find(repo)))
        yield* host.ensure(repo)
        assert.isUndefined(yield* headOf(repo, main))
        assert.deepStrictEqual((yield* readWholeTree(repo)).entries, [])
      })
    ),

  "operations on a repository that does not exist fail with RepoNotFound": () =>
    withName(
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
