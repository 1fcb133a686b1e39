import * as GitHubRepos from "@castellan/adapters/github/GitHubRepos.ts"
import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import { BranchName, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { GitHubEmulator } from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Option, Redacted } from "effect"
import { besideOthers, directory } from "../git-local/temporaryRepos.ts"
import { emulated } from "../github/emulatedGitHub.ts"
import { pushed, repoOf, unavailable } from "../github/fixture.ts"
import { author } from "./author.ts"
import { publish } from "./publish.ts"

const main = BranchName.make("main")

/** A public repository with one commit. */
const published = Effect.fnUntraced(function* (name: string, files: Readonly<Record<string, string>>) {
  const one = yield* author
  const commit = yield* one.commit(files)
  const repo = new Repo({ owner: RepoOwner.make("somebody"), name: RepoName.make(name) })
  yield* publish(repo, yield* one.bundle({ [main]: commit }))
  return { repo, commit }
}, Effect.scoped)

const fetched = (repo: Repo) =>
  Effect.flatMap(RepoHost, (host) => Effect.scoped(host.fetch(repo, null, [], "anonymous")))

const hosts: Readonly<Record<string, Layer.Layer<GitHubEmulator | RepoHost, unknown>>> = {
  GitHub: emulated(),
  "a directory": besideOthers
}

for (const [subject, layer] of Object.entries(hosts)) {
  describe(`Anonymous fetch beside repositories in ${subject}`, () => {
    it.live("fetches a public repository without sending a credential", () =>
      Effect.gen(function* () {
        const { commit, repo } = yield* published("public", { a: "1" })
        const { requests } = yield* GitHubEmulator
        assert.strictEqual(Option.getOrThrow(yield* fetched(repo)).commit, commit)
        assert.isAbove(requests.length, 0)
        for (const { headers, path } of requests) {
          assert.isUndefined(headers.authorization, path)
          assert.match(path, /^\/somebody\/public\//)
        }
      }).pipe(Effect.provide(layer))
    )

    it.live("fails with RepoNotFound for a repository that is missing or was renamed", () =>
      Effect.gen(function* () {
        const { repo } = yield* published("renamed", { a: "1" })
        const github = yield* GitHubEmulator
        github.rename(repo.owner, repo.name, "other")
        for (const one of [repo, new Repo({ ...repo, name: RepoName.make("never") })]) {
          assert.strictEqual((yield* Effect.flip(fetched(one)))._tag, "RepoNotFound")
        }
        for (const { headers } of github.requests) assert.isUndefined(headers.authorization)
      }).pipe(Effect.provide(layer))
    )

    it.live("fails with a retryable error where the server is failing or limits requests", () =>
      Effect.gen(function* () {
        const { repo } = yield* published("sick", { a: "1" })
        const { faults } = yield* GitHubEmulator
        const which = { times: 2, path: /info\/refs/ }
        faults.plan({ kind: "status", status: 503 }, which)
        assert.deepInclude(yield* unavailable(fetched(repo)), { retryable: true, retryAfterMs: null })
        faults.plan({ kind: "secondaryRateLimited", retryAfterSeconds: 7 }, which)
        assert.deepInclude(yield* unavailable(fetched(repo)), { retryable: true, retryAfterMs: 7000 })
        faults.plan({ kind: "droppedBefore" }, which)
        assert.deepInclude(yield* unavailable(fetched(repo)), { retryable: true, retryAfterMs: null })
        // The fault is over before the request that explains the failure.
        faults.plan({ kind: "status", status: 404 }, { ...which, times: 1 })
        assert.deepInclude(yield* unavailable(fetched(repo)), { retryable: true, retryAfterMs: null })
        assert.isTrue(Option.isSome(yield* fetched(repo)))
      }).pipe(Effect.provide(layer))
    )
  })
}

describe("Anonymous fetch", () => {
  it.live("does not fetch a private repository, even if the service's credential may read it", () =>
    Effect.gen(function* () {
      const repo = yield* repoOf("private")
      const commit = yield* pushed(repo, { secret: "1" })
      const host = yield* RepoHost
      const { requests } = yield* GitHubEmulator
      const before = requests.length
      assert.strictEqual((yield* Effect.flip(fetched(repo)))._tag, "RepoNotFound")
      const sent = requests.slice(before)
      assert.isAbove(sent.length, 0)
      for (const { headers, path } of sent) assert.isUndefined(headers.authorization, path)
      const own = yield* Effect.scoped(host.fetch(repo, null, [], "service"))
      assert.strictEqual(Option.getOrThrow(own).commit, commit)
    }).pipe(Effect.provide(emulated()))
  )

  it.live("fails with a retryable error where the server can't be reached", () =>
    Effect.gen(function* () {
      // A closed port, and a host name that does not exist.
      for (const url of ["http://127.0.0.1:1", "https://repositories.invalid"]) {
        const hosts: ReadonlyArray<Layer.Layer<RepoHost, unknown>> = [
          LocalRepos.layer({ directory: yield* directory, publicUrl: url }),
          GitHubRepos.layer({ token: Redacted.make("token"), owner: RepoOwner.make("castellan"), url })
        ]
        for (const layer of hosts) {
          const error = yield* Effect.flip(Effect.provide(Effect.flatMap(repoOf("any"), fetched), layer))
          assert.instanceOf(error, RepoUnavailable)
          assert.deepInclude(error, { operation: "fetch", retryable: true })
        }
      }
    }).pipe(Effect.scoped)
  )
})

describe("The base URL of public repositories", () => {
  const supports = (env: Record<string, string>) =>
    Effect.gen(function* () {
      const layer = LocalRepos.layerConfig({ directory: yield* directory })
      return yield* Effect.provide(
        Effect.map(RepoHost, (host) => host.supports),
        Layer.provide(layer, ConfigProvider.layer(ConfigProvider.fromEnv({ env })))
      )
    }).pipe(Effect.scoped)

  it.live("is GITHUB_URL, or github.com by default", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* supports({})).publicUrl, "https://github.com")
      assert.strictEqual((yield* supports({ GITHUB_URL: " " })).publicUrl, "https://github.com")
      assert.strictEqual((yield* supports({ GITHUB_URL: "https://git.example/" })).publicUrl, "https://git.example")
    })
  )

  for (const url of ["git.example", "http://git.example", "https://somebody:secret@git.example", "https://a/?b"]) {
    it.live(`rejects GITHUB_URL without repeating it: ${url}`, () =>
      Effect.gen(function* () {
        const refusal = yield* Effect.flip(supports({ GITHUB_URL: url }))
        assert.deepStrictEqual(
          [refusal._tag, refusal.message],
          [
            "LocalReposUnavailable",
            "GITHUB_URL must be https://host (http:// for this host only), without user, password or query"
          ]
        )
      })
    )
  }
})
