import * as GitHubRepos from "@castellan/adapters/github/GitHubRepos.ts"
import { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import type { Fault } from "@castellan/testkit/emulators/github/Faults.ts"
import { GitHubEmulator } from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Option, Redacted, Stream } from "effect"
import { author } from "../git/author.ts"
import { emulated } from "./emulatedGitHub.ts"
import { pushed, repoOf, requestsOf, unavailable } from "./fixture.ts"

const file = RepoPath.make("file")

describe("The GitHub adapter", () => {
  const failures: Record<
    string,
    readonly [Fault, { readonly retryable: boolean; readonly after: readonly [number, number] | null }]
  > = {
    "an exhausted rate limit with status 403": [
      { kind: "rateLimited", status: 403, resetInSeconds: 120 },
      { retryable: true, after: [115_000, 121_000] }
    ],
    "an exhausted rate limit with status 429": [
      { kind: "rateLimited", status: 429, resetInSeconds: 3600 },
      { retryable: true, after: [3_595_000, 3_601_000] }
    ],
    "a rate limit that has already been reset": [
      { kind: "rateLimited", status: 403, resetInSeconds: -10 },
      { retryable: true, after: [0, 0] }
    ],
    "a secondary rate limit": [
      { kind: "secondaryRateLimited", retryAfterSeconds: 60 },
      { retryable: true, after: [60_000, 60_000] }
    ],
    "a secondary rate limit without a delay": [
      { kind: "secondaryRateLimited", retryAfterSeconds: null },
      { retryable: true, after: null }
    ],
    "no permission": [
      { kind: "status", status: 403 },
      { retryable: false, after: null }
    ],
    "an invalid request": [
      { kind: "status", status: 422 },
      { retryable: false, after: null }
    ],
    "an internal error": [
      { kind: "status", status: 500 },
      { retryable: true, after: null }
    ],
    "a gateway error": [
      { kind: "status", status: 502 },
      { retryable: true, after: null }
    ],
    "a dropped connection": [{ kind: "droppedBefore" }, { retryable: true, after: null }],
    "a connection that drops during the response": [{ kind: "cutOff" }, { retryable: true, after: null }]
  }

  for (const [what, [fault, { after, retryable }]] of Object.entries(failures)) {
    it.live(`reports ${what} as ${retryable ? "" : "not "}retryable, and does not retry`, () =>
      Effect.gen(function* () {
        const github = yield* GitHubEmulator
        const host = yield* RepoHost
        const repo = yield* repoOf("one")
        yield* pushed(repo, { file: "x".repeat(10_000) })
        for (const [operation, call] of Object.entries({
          find: host.find(repo),
          ensure: host.ensure(repo),
          tree: host.tree(repo, null),
          readFile: host.readFile(repo, file),
          ...(fault.kind === "cutOff" ? {} : { remove: host.remove(repo) })
        })) {
          github.faults.plan(fault)
          const before = github.requests.length
          const error = yield* unavailable<unknown, unknown, never>(call)
          assert.deepInclude(error, { operation, retryable })
          assert.strictEqual(github.requests.length, before + 1)
          if (after === null || error.retryAfterMs === null) assert.isNull(error.retryAfterMs)
          else assert.isTrue(error.retryAfterMs >= after[0] && error.retryAfterMs <= after[1], `${error.retryAfterMs}`)
        }
        assert.isTrue(Option.isSome(yield* host.find(repo)))
      }).pipe(Effect.provide(emulated()))
    )
  }

  it.live("reports an invalid token as not retryable, by REST and by git", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const layer = GitHubRepos.layer({
        token: Redacted.make("another-token"),
        owner: RepoOwner.make(github.organization),
        url: github.url,
        apiUrl: github.apiUrl
      })
      const repo = yield* repoOf("one")
      yield* pushed(repo, { file: "1" })
      yield* Effect.gen(function* () {
        const host = yield* RepoHost
        for (const operation of [
          host.find(repo),
          host.tree(repo, null),
          Effect.scoped(host.fetch(repo, null, [], "service"))
        ]) {
          const error = yield* unavailable<unknown, unknown, never>(operation)
          assert.deepInclude(error, { retryable: false, retryAfterMs: null })
        }
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.provide(emulated()))
  )

  it.live("reports a token without permission as not retryable", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const repo = yield* repoOf("one")
      const commit = yield* pushed(repo, { file: "1" })
      github.addToken("reading-token", "read")
      const layer = GitHubRepos.layer({
        token: Redacted.make("reading-token"),
        owner: RepoOwner.make(github.organization),
        url: github.url,
        apiUrl: github.apiUrl
      })
      yield* Effect.gen(function* () {
        const host = yield* RepoHost
        const found = yield* Effect.scoped(host.fetch(repo, null, [], "service"))
        assert.strictEqual(Option.getOrThrow(found).commit, commit)
        const other = new Repo({ owner: repo.owner, name: RepoName.make("other") })
        for (const operation of [
          host.remove(repo),
          host.ensure(other),
          pushed(repo, { file: "2" }, other.name as never)
        ]) {
          assert.isFalse((yield* unavailable<unknown, unknown, RepoHost>(operation)).retryable)
        }
        assert.isTrue(Option.isSome(yield* host.find(repo)))
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.provide(emulated()))
  )

  it.live("reports a protected branch as not retryable", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* host.ensure(repo)
      yield* Effect.promise(() => github.protect(repo.owner, repo.name, firstBranch))
      assert.deepInclude(yield* unavailable(pushed(repo, { file: "1" })), { operation: "push", retryable: false })
    }).pipe(Effect.provide(emulated()))
  )

  it.live("reports failures of git as retryable after the delay that REST asks for", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* pushed(repo, { file: "1" })
      const fetch = Effect.scoped(host.fetch(repo, null, [], "service"))
      const git = /\/info\/refs/
      github.faults.plan({ kind: "status", status: 503 }, { path: git })
      assert.deepInclude(yield* unavailable(fetch), { operation: "fetch", retryable: true, retryAfterMs: null })
      github.faults.plan({ kind: "droppedBefore" }, { path: git })
      assert.deepInclude(yield* unavailable(fetch), { retryable: true, retryAfterMs: null })
      github.faults.plan({ kind: "status", status: 503 }, { path: git })
      github.faults.plan({ kind: "secondaryRateLimited", retryAfterSeconds: 7 }, { path: /^\/repos/ })
      assert.deepInclude(yield* unavailable(fetch), { retryable: true, retryAfterMs: 7000 })
    }).pipe(Effect.provide(emulated()))
  )

  it.live("finds that a push whose response was lost has succeeded", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* host.ensure(repo)
      const one = yield* author
      const commit = yield* one.commit({ file: "1" })
      const bundle = yield* one.bundle({ [firstBranch]: commit })
      github.faults.plan({ kind: "droppedAfter" }, { method: "POST", path: /git-receive-pack$/ })
      // The adapter checks that the branch is where it should be.
      yield* host.push(repo, firstBranch, Stream.make(bundle))
      yield* host.push(repo, firstBranch, Stream.make(bundle))
      assert.strictEqual(Option.getOrThrow(yield* host.fetch(repo, null, [], "service")).commit, commit)
    }).pipe(Effect.scoped, Effect.provide(emulated()))
  )

  it.live("finds the created repository when the response was lost", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      github.faults.plan({ kind: "droppedAfter" }, { method: "POST" })
      assert.isTrue((yield* unavailable(host.ensure(repo))).retryable)
      assert.isTrue((yield* host.ensure(repo)).isPrivate)
      assert.deepStrictEqual(github.repositories(), [{ owner: repo.owner, name: "one", private: true }])
    }).pipe(Effect.provide(emulated()))
  )

  it.live("succeeds in a second delete when the first response was lost", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* host.ensure(repo)
      github.faults.plan({ kind: "droppedAfter" }, { method: "DELETE" })
      assert.isTrue((yield* unavailable(host.remove(repo))).retryable)
      yield* host.remove(repo)
      assert.deepStrictEqual(github.repositories(), [])
    }).pipe(Effect.provide(emulated()))
  )

  it.live("aborts a request at the timeout", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      github.faults.plan({ kind: "slow", ms: 30_000 })
      const begun = Date.now()
      assert.deepInclude(yield* unavailable(host.find(repo)), { retryable: true, retryAfterMs: null })
      assert.isBelow(Date.now() - begun, 10_000)
      yield* eventually(() => github.requests[0]?.aborted === true)
    }).pipe(Effect.provide(emulated({ timeout: "300 millis" })))
  )

  it.live("aborts a request on interruption", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      github.faults.plan({ kind: "slow", ms: 30_000 })
      const fiber = yield* Effect.forkChild(host.find(repo))
      yield* eventually(() => github.requests.length === 1)
      yield* Fiber.interrupt(fiber)
      yield* eventually(() => github.requests[0]?.aborted === true)
    }).pipe(Effect.provide(emulated()))
  )

  it.live("reports a renamed repository as missing under its old name, and does not change it", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const old = yield* repoOf("old")
      const other = yield* repoOf("new")
      const commit = yield* pushed(old, { file: "1" })
      github.rename(old.owner, "old", "new")
      assert.isTrue(Option.isNone(yield* host.find(old)))
      for (const operation of [
        host.tree(old, null),
        host.readFile(old, file),
        Effect.scoped(host.fetch(old, null, [], "service"))
      ]) {
        assert.strictEqual(
          (yield* Effect.flip<unknown, { readonly _tag: string }, never>(operation))._tag,
          "RepoNotFound"
        )
      }
      yield* host.remove(old)
      assert.strictEqual(Option.getOrThrow(yield* host.fetch(other, null, [], "service")).commit, commit)
      yield* host.ensure(old)
      assert.isTrue(Option.isNone(yield* host.fetch(old, null, [], "service")))
      assert.strictEqual(github.repositories().length, 2)
    }).pipe(Effect.scoped, Effect.provide(emulated()))
  )

  it.live("does not report a repository as missing after another redirect", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      for (const operation of [host.find(repo), host.ensure(repo), host.remove(repo), host.tree(repo, null)]) {
        github.faults.plan({ kind: "redirected", to: "https://github.example.com/login" })
        assert.isFalse((yield* unavailable<unknown, unknown, never>(operation)).retryable)
      }
    }).pipe(Effect.provide(emulated()))
  )

  it.live("creates no repository for an owner that is neither an organization nor the token's user", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = new Repo({ owner: RepoOwner.make("somebody-else"), name: RepoName.make("one") })
      assert.isFalse((yield* unavailable(host.ensure(repo))).retryable)
      assert.deepStrictEqual(github.repositories(), [])
    }).pipe(Effect.provide(emulated()))
  )

  it.live("creates private repositories for the token's user", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* Effect.all([host.ensure(repo), host.ensure(repo), host.ensure(repo)], { concurrency: "unbounded" })
      assert.deepStrictEqual(github.repositories(), [{ owner: github.user, name: "one", private: true }])
    }).pipe(Effect.provide(emulated({ owner: "user" })))
  )

  it.live("sends as few requests as possible for each operation", () =>
    Effect.gen(function* () {
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      const at = `/repos/${repo.owner}/one`
      assert.deepStrictEqual(yield* requestsOf(host.ensure(repo)), [
        `GET ${at} 404`,
        `POST /orgs/${repo.owner}/repos 201`
      ])
      assert.deepStrictEqual(yield* requestsOf(host.ensure(repo)), [`GET ${at} 200`])
      assert.deepStrictEqual(yield* requestsOf(host.tree(repo, null)), [`GET ${at}/git/trees/HEAD?recursive=1 409`])
      yield* pushed(repo, { "a b/#?": "1" })
      assert.deepStrictEqual(yield* requestsOf(host.tree(repo, null)), [`GET ${at}/git/trees/HEAD?recursive=1 200`])
      const path = RepoPath.make("a b/#?")
      assert.deepStrictEqual(yield* requestsOf(host.readFile(repo, path)), [`GET ${at}/contents/a%20b/%23%3F 200`])
      assert.deepStrictEqual(yield* requestsOf(host.remove(repo)), [`DELETE ${at} 204`])
    }).pipe(Effect.provide(emulated()))
  )

  it.live("reports a file that GitHub does not serve as too large", () =>
    Effect.gen(function* () {
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* pushed(repo, { file: "more than ten bytes", other: "less" })
      assert.strictEqual((yield* Effect.flip(host.readFile(repo, file)))._tag, "RepoFileTooLarge")
      assert.strictEqual((yield* host.readFile(repo, RepoPath.make("other"))).length, 4)
    }).pipe(Effect.provide(emulated({ blobLimit: 10 })))
  )
})

const eventually = (condition: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => (condition() ? Effect.void : Effect.andThen(Effect.sleep("20 millis"), eventually(condition))))
