import * as GitHubRepos from "@castellan/adapters/github/GitHubRepos.ts"
import * as Git from "@castellan/adapters/git/Git.ts"
import { BranchName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { GitHubEmulator } from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Redacted, Stream } from "effect"
import { bomb, bundleOf } from "../git/bombs.ts"
import { emulated } from "./emulatedGitHub.ts"
import { pushed, repoOf, requestsOf, unavailable } from "./fixture.ts"

const paths = ["a/b/c/1", "a/b/c/2", "a/b/c/3", "a/b/d", "a/e", "f/1", "f/2", "g", "h/i/j/k/l"]
const files = Object.fromEntries(paths.map((path) => [path, path]))

describe("The tree of a repository on GitHub", () => {
  for (const treeLimit of [1, 2, 3, 5, 9, 1000]) {
    it.live(`is complete and in git's order if GitHub returns ${treeLimit} entries at once`, () =>
      Effect.gen(function* () {
        const host = yield* RepoHost
        const repo = yield* repoOf("one")
        yield* pushed(repo, files)
        const { entries } = Option.getOrThrow(yield* host.tree(repo, null))
        assert.deepStrictEqual(
          entries.map(({ path }) => path),
          ["a", "a/b", "a/b/c", "a/b/c/1", "a/b/c/2", "a/b/c/3", "a/b/d", "a/e", "f", "f/1", "f/2", "g", "h"].concat([
            "h/i",
            "h/i/j",
            "h/i/j/k",
            "h/i/j/k/l"
          ])
        )
        for (const { path, size, type } of entries) assert.strictEqual(size, type === "blob" ? path.length : undefined)
      }).pipe(Effect.provide(emulated({ treeLimit })))
    )
  }

  it.live("is marked as truncated if GitHub does not list a whole directory", () =>
    Effect.gen(function* () {
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* pushed(repo, files)
      const { entries, truncated } = Option.getOrThrow(yield* host.tree(repo, null))
      assert.isTrue(truncated)
      assert.includeMembers(
        entries.map(({ path }) => path),
        ["a", "a/b", "f", "f/1", "f/2"]
      )
    }).pipe(Effect.provide(emulated({ treeLimit: 2, directoryLimit: 2 })))
  )

  for (const status of [404, 409, 500]) {
    it.live(`is complete, or the request fails, if GitHub answers a part with ${status}`, () =>
      Effect.gen(function* () {
        const github = yield* GitHubEmulator
        const host = yield* RepoHost
        const repo = yield* repoOf("one")
        yield* pushed(repo, files)
        github.faults.plan({ kind: "status", status }, { path: /trees\/[0-9a-f]{40}\?recursive/ })
        assert.isTrue((yield* unavailable(host.tree(repo, null))).retryable)
      }).pipe(Effect.provide(emulated({ treeLimit: 2 })))
    )
  }

  it.live("is marked as truncated after the limit of requests", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const host = yield* RepoHost
      const repo = yield* repoOf("bomb")
      yield* host.ensure(repo)
      const author = yield* Git.workspace
      const branch = BranchName.make("main")
      yield* host.push(repo, branch, Stream.make(bundleOf(author, bomb, branch)))
      const before = github.requests.length
      const { entries, truncated } = Option.getOrThrow(yield* host.tree(repo, null))
      assert.isTrue(truncated)
      assert.isAbove(entries.length, 10)
      // The first response says that the tree is truncated.
      assert.isAtMost(github.requests.length - before, 21)
    }).pipe(Effect.scoped, Effect.provide(emulated({ treeLimit: 5, treeRequests: 20 })))
  )

  for (const treeLimit of [2, 1000]) {
    it.live(`is revalidated by one request without a body (${treeLimit} entries at once)`, () =>
      Effect.gen(function* () {
        const host = yield* RepoHost
        const repo = yield* repoOf("one")
        yield* pushed(repo, files)
        const { revision } = Option.getOrThrow(yield* host.tree(repo, null))
        const at = `GET /repos/${repo.owner}/one/git/trees/HEAD?recursive=1`
        assert.deepStrictEqual(yield* requestsOf(host.tree(repo, revision)), [`${at} 304`])
        assert.isTrue(Option.isNone(yield* host.tree(repo, revision)))
      }).pipe(Effect.provide(emulated({ treeLimit })))
    )
  }

  it.live("is recognized after a change of credentials, which changes GitHub's ETags", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator
      const repo = yield* repoOf("one")
      yield* pushed(repo, files)
      const { revision } = Option.getOrThrow(yield* (yield* RepoHost).tree(repo, null))
      github.addToken("token-of-tomorrow", "admin")
      const tomorrow = GitHubRepos.layer({
        token: Redacted.make("token-of-tomorrow"),
        owner: RepoOwner.make(github.organization),
        url: github.url,
        apiUrl: github.apiUrl
      })
      const again = yield* Effect.provide(
        Effect.flatMap(RepoHost, (host) => host.tree(repo, revision)),
        tomorrow
      )
      assert.isTrue(Option.isNone(again))
      assert.strictEqual(github.requests.at(-1)?.status, 200)
    }).pipe(Effect.provide(emulated()))
  )

  it.live("ignores a revision of an unknown form", () =>
    Effect.gen(function* () {
      const host = yield* RepoHost
      const repo = yield* repoOf("one")
      yield* pushed(repo, files)
      for (const known of ["", "empty", 'x\r\nx-header: "1"', `${"0".repeat(40)} "\r\nx: y"`, "\ud800"]) {
        assert.isTrue(Option.isSome(yield* host.tree(repo, known)), JSON.stringify(known))
      }
    }).pipe(Effect.provide(emulated()))
  )
})
