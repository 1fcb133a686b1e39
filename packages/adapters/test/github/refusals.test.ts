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

describe("What GitHub refuses", () => {
  const bad: Record<
    string,
    readonly [Fault, { readonly retryable: boolean; readonly after: readonly [number, number] | null }]
  > = {
    "an hour's requests used up, said with 403": [
      { kind: "rateLimited", status: 403, resetInSeconds: 120 },
      { retryable: true, after: [115_000, 121_000] }
    ],
    "an hour's requests used up, said with 429": [
      { kind: "rateLimited", status: 429, resetInSeconds: 3600 },
      { retryable: true, after: [3_595_000, 3_601_000] }
    ],
    "a limit that is over by now": [
      { kind: "rateLimited", status: 403, resetInSeconds: -10 },
      { retryable: true, after: [0, 0] }
    ],
    "too much at once": [
      { kind: "secondaryRateLimited", retryAfterSeconds: 60 },
      { retryable: true, after: [60_000, 60_000] }
    ],
    "too much at once, without a word on when it is over": [
      { kind: "secondaryRateLimited", retryAfterSeconds: null },
      { retryable: true, after: null }
    ],
    "no permission": [
      { kind: "status", status: 403 },
      { retryable: false, after: null }
    ],
    "a wrong request": [
      { kind: "status", status: 422 },
      { retryable: false, after: null }
    ],
    "a fault of its own": [
      { kind: "status", status: 500 },
      { retryable: true, after: null }
    ],
    "a gateway's fault": [
      { kind: "status", status: 502 },
      { retryable: true, after: null }
    ],
    "a connection that goes": [{ kind: "droppedBefore" }, { retryable: true, after: null }],
    "a connection that goes in the middle of the answer": [{ kind: "cutOff" }, { retryable: true, after: null }]
  }

  for (const [what, [fault, { after, retryable }]] of Object.entries(bad)) {
    it.live(`${what} is ${retryable ? "" : "not "}worth another try, by whoever asked, not by the adapter`, () =>
      Effect.gen(function* () {
        const github = yield* GitHubEmulator
        const host = yield* RepoHost
        const repo = yield* repoOf("one")
        yield* pushed(repo, { file: "x".repeat(10_000) })
        for (const [operation, asked] of Object.entries({
          find: host.find(repo),
          ensure: host.ensure(repo),
          tree: host.tree(repo, null),
          readFile: host.readFile(repo, file),
          ...(fault.kind === "cutOff" ? {} : { remove: host.remove(repo) })
        })) {
          github.faults.plan(fault)
          const before = github.requests.length
          const error = yield* unavailable<unknown, unknown, never>(asked)
          assert.deepInclude(error, { operation, retryable })
          assert.strictEqual(github.requests.length, before + 1)
          if (after === null || error.retryAfterMs === null) assert.isNull(error.retryAfterMs)
          else assert.isTrue(error.retryAfterMs >= after[0] && error.retryAfterMs <= after[1], `${error.retryAfterMs}`)
        }
        assert.isTrue(Option.isSome(yield* host.find(repo)))
      }).pipe(Effect.provide(emulated()))
    )
  }

  it.live("a token it does not know is not worth another try, for REST as for git", () =>
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
        for (const asked of [
          host.find(repo),
          host.tree(repo, null),
          Effect.scoped(host.fetch(repo, null, [], "service"))
        ]) {
          const error = yield* unavailable<unknown, unknown, never>(asked)
          assert.deepInclude(error, { retryable: false, retryAfterMs: null })
        }
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.provide(emulated()))
  )

  it.live("a token without the right is told so, and nothing is worth another try", () =>
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
        for (const asked of [host.remove(repo), host.ensure(other), pushed(repo, { file: "2" }, other.name as never)]) {
          assert.isFalse((yield* unavailable<unknown, unknown, RepoHost>(asked)).retryable)
        }
        assert.isTrue(Option.isSome(yield* host.find(repo)))
      }).pipe(Effect.provide(layer))
    }).pipe(Effect.provide(emulated()))
  )

  it.live("a protected branch is not worth another try", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* host.ensure(repo)
      yield* Effect.promise(() => github.protect(repo.owner, repo.name, firstBranch))
      assert.deepInclude(yield* unavailable(pushed(repo, { file: "1" })), { operation: "push", retryable: false })
    }).pipe(Effect.provide(emulated()))
  )

  it.live("what goes wrong with git is worth another try, after the pause that REST asks for", () =>
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

  it.live("a push whose answer was lost has happened, and pushing again changes nothing", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* host.ensure(repo)
      const one = yield* author
      const commit = yield* one.commit({ file: "1" })
      const bundle = yield* one.bundle({ [firstBranch]: commit })
      github.faults.plan({ kind: "droppedAfter" }, { method: "POST", path: /git-receive-pack$/ })
      // The adapter finds out by itself that the branch is where it should be.
      yield* host.push(repo, firstBranch, Stream.make(bundle))
      yield* host.push(repo, firstBranch, Stream.make(bundle))
      assert.strictEqual(Option.getOrThrow(yield* host.fetch(repo, null, [], "service")).commit, commit)
    }).pipe(Effect.scoped, Effect.provide(emulated()))
  )

  it.live("a create whose answer was lost is one repository, found by asking again", () =>
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

  it.live("a delete whose answer was lost is repaired by asking again", () =>
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

  it.live("a request has a deadline, and ends with it", () =>
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

  it.live("an interruption ends the request", () =>
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

  it.live("a repository that was given another name is not there under the old one, and is left alone", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const old = yield* repoOf("old")
      const other = yield* repoOf("new")
      const commit = yield* pushed(old, { file: "1" })
      github.rename(old.owner, "old", "new")
      assert.isTrue(Option.isNone(yield* host.find(old)))
      for (const asked of [
        host.tree(old, null),
        host.readFile(old, file),
        Effect.scoped(host.fetch(old, null, [], "service"))
      ]) {
        assert.strictEqual((yield* Effect.flip<unknown, { readonly _tag: string }, never>(asked))._tag, "RepoNotFound")
      }
      yield* host.remove(old)
      assert.strictEqual(Option.getOrThrow(yield* host.fetch(other, null, [], "service")).commit, commit)
      yield* host.ensure(old)
      assert.isTrue(Option.isNone(yield* host.fetch(old, null, [], "service")))
      assert.strictEqual(github.repositories().length, 2)
    }).pipe(Effect.scoped, Effect.provide(emulated()))
  )

  it.live("to be sent on to another place does not mean that there is no repository", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      for (const asked of [host.find(repo), host.ensure(repo), host.remove(repo), host.tree(repo, null)]) {
        github.faults.plan({ kind: "redirected", to: "https://github.example.com/login" })
        assert.isFalse((yield* unavailable<unknown, unknown, never>(asked)).retryable)
      }
    }).pipe(Effect.provide(emulated()))
  )

  it.live("nothing is made for an owner who is neither an organization nor the token's user", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = new Repo({ owner: RepoOwner.make("somebody-else"), name: RepoName.make("one") })
      assert.isFalse((yield* unavailable(host.ensure(repo))).retryable)
      assert.deepStrictEqual(github.repositories(), [])
    }).pipe(Effect.provide(emulated()))
  )

  it.live("a user's repositories are made as the user's, private too", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* Effect.all([host.ensure(repo), host.ensure(repo), host.ensure(repo)], { concurrency: "unbounded" })
      assert.deepStrictEqual(github.repositories(), [{ owner: github.user, name: "one", private: true }])
    }).pipe(Effect.provide(emulated({ owner: "user" })))
  )

  it.live("each question is as few requests as it can be", () =>
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

  it.live("a file that GitHub itself does not serve is too large", () =>
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
