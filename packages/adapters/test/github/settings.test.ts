import * as GitHubRepos from "@castellan/adapters/github/GitHubRepos.ts"
import { RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import * as GitHubEmulator from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { ConfigProvider, Effect, Layer, Option } from "effect"
import { pushed, repoOf } from "./fixture.ts"

const given = (env: Record<string, string>) =>
  GitHubRepos.layerConfig.pipe(Layer.provide(ConfigProvider.layer(ConfigProvider.fromEnv({ env }))))

const enough = { GITHUB_TOKEN: "token-for-tests", GITHUB_ORG: "castellan-repos" }

describe("The configuration of the GitHub adapter", () => {
  it.live("defaults to github.com", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* RepoHost).supports, {
        name: "github",
        url: "https://github.com",
        owner: RepoOwner.make("castellan-repos"),
        publicUrl: "https://github.com"
      })
    }).pipe(Effect.provide(given({ ...enough, GITHUB_URL: "", GITHUB_API_URL: " " })))
  )

  const refused: Record<string, Record<string, string>> = {
    "GITHUB_TOKEN is not set; it must be a token that may use GITHUB_ORG": { GITHUB_TOKEN: "" },
    "GITHUB_TOKEN must be printable characters without spaces": { GITHUB_TOKEN: "two words" },
    "GITHUB_ORG is not set; it must be an organization or the token's own user": { GITHUB_ORG: " " },
    'GITHUB_ORG is "a/b"; it must be the name of an organization or a user': { GITHUB_ORG: "a/b" }
  }
  for (const [sentence, env] of Object.entries(refused)) {
    it.live(`rejects invalid variables with a message: ${sentence}`, () =>
      Effect.gen(function* () {
        const refusal = yield* Effect.flip(Layer.build(given({ ...enough, ...env })))
        assert.deepStrictEqual([refusal._tag, refusal.message], ["GitHubUnavailable", sentence])
      }).pipe(Effect.scoped)
    )
  }

  for (const name of ["GITHUB_URL", "GITHUB_API_URL"]) {
    it.live(`rejects a ${name} that is not safe for a credential, without repeating it`, () =>
      Effect.gen(function* () {
        for (const value of [
          "github.example.com",
          "ftp://github.example.com",
          "http://github.example.com",
          "https://user:password@github.example.com",
          "https://github.example.com/?password",
          "https://github.example.com/#password"
        ]) {
          const refusal = yield* Effect.flip(Layer.build(given({ ...enough, [name]: value })))
          assert.include(refusal.message, `${name} must be https://host`)
          assert.notInclude(refusal.message, "password@")
        }
      }).pipe(Effect.scoped)
    )
  }

  it.live("derives the API of an Enterprise Server from GITHUB_URL", () =>
    Effect.gen(function* () {
      const github = yield* GitHubEmulator.start()
      yield* Effect.gen(function* () {
        const host = yield* RepoHost
        assert.strictEqual(host.supports.url, github.url)
        const repo = yield* repoOf("one")
        const commit = yield* pushed(repo, { file: "1" })
        assert.strictEqual(Option.getOrThrow(yield* host.fetch(repo, null, [], "service")).commit, commit)
        assert.isTrue(Option.isSome(yield* host.tree(repo, null)))
        const rest = github.requests.filter(({ path }) => path.includes("/repos"))
        assert.isTrue(rest.length > 0 && rest.every(({ path }) => path.startsWith("/api/v3/")))
      }).pipe(Effect.provide(given({ ...enough, GITHUB_ORG: github.organization, GITHUB_URL: `${github.url}/` })))
    }).pipe(Effect.scoped)
  )
})
