import { BranchName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Result, Stream } from "effect"
import type { Clauses } from "../contract.ts"
import type { NewAuthor } from "./Author.ts"
import { main, other, unknownCommit, made, pushed, fetched } from "./fixtures.ts"

export const fetching = (newAuthor: NewAuthor): Clauses<RepoHost> => ({
  "a branch is fetched with all its commits, the default one if none is named": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const second = yield* pushed(author, repo, { a: "2" }, { parents: [first] })
        const aside = yield* pushed(author, repo, { a: "1", b: "1" }, { branch: other, parents: [first] })
        for (const [asked, branch, commit] of [
          [null, main, second],
          [main, main, second],
          [other, other, aside]
        ] as const) {
          const reader = yield* newAuthor
          const found = yield* fetched(repo, asked)
          assert.deepStrictEqual([found.branch, found.commit], [branch, commit])
          assert.deepStrictEqual(yield* reader.take(found.bundle!), { [branch]: commit })
          assert.deepStrictEqual(yield* reader.files(first), { a: "1" })
          assert.deepStrictEqual(yield* reader.files(commit), branch === main ? { a: "2" } : { a: "1", b: "1" })
        }
      })
    ),

  "there is nothing to fetch of an empty repository, or of a branch that nobody made": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        for (const branch of [null, main]) assert.isTrue(Option.isNone(yield* host.fetch(repo, branch, [], "service")))
        const commit = yield* pushed(author, repo, { a: "1" })
        yield* pushed(author, repo, { a: "2" }, { branch: other, parents: [commit] })
        // Neither the beginning of a branch's name is a branch, nor its end.
        for (const branch of ["none", "other", "branch", "mai", "heads/main"].map((name) => BranchName.make(name))) {
          assert.isTrue(Option.isNone(yield* host.fetch(repo, branch, [commit], "service")), branch)
        }
      })
    ),

  "a bundle leaves out what is there already, and ids nobody knows don't matter": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1", b: "1" })
        const reader = yield* newAuthor
        yield* reader.take((yield* fetched(repo, main)).bundle!)
        const second = yield* pushed(author, repo, { a: "2", b: "1" }, { parents: [first] })
        const { bundle, commit } = yield* fetched(repo, main, [unknownCommit, first])
        assert.strictEqual(commit, second)
        // Whoever has not the first can't read it; whoever has can.
        assert.isTrue(Result.isFailure(yield* Effect.result((yield* newAuthor).take(bundle!))))
        assert.deepStrictEqual(yield* reader.take(bundle!), { [main]: second })
        assert.deepStrictEqual(yield* reader.files(second), { a: "2", b: "1" })
        const whole = yield* fetched(repo, main, [unknownCommit])
        assert.deepStrictEqual(yield* (yield* newAuthor).take(whole.bundle!), { [main]: second })
      })
    ),

  "there is no bundle when everything is there": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        assert.deepStrictEqual(yield* fetched(repo, main, [first]), { branch: main, commit: first, bundle: undefined })
      })
    ),

  "a bundle can be read until the scope closes, whatever becomes of the branch": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const found = Option.getOrThrow(yield* host.fetch(repo, null, [], "service"))
        yield* pushed(author, repo, { a: "2" }, { parents: [first] })
        yield* host.remove(repo)
        const bundle = Buffer.concat(yield* Stream.runCollect(Option.getOrThrow(found.bundle)))
        assert.deepStrictEqual(yield* (yield* newAuthor).take(bundle), { [main]: first })
      })
    )
})
