import { Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import type { Clauses } from "../contract.ts"

export const urls: Clauses<RepoHost> = {
  "the host's URLs parse back to its repositories": () =>
    Effect.gen(function* () {
      const { owner, publicUrl, url } = (yield* RepoHost).supports
      const repo = new Repo({ owner, name: RepoName.make("a.Name_") })
      for (const base of [url, publicUrl]) {
        assert.isFalse(base.endsWith("/"))
        const whole = new URL(RepoUrl.urlOf(base, repo)).href
        assert.deepStrictEqual(RepoUrl.parse(base, whole), Option.some(repo))
      }
    }),

  "the host's URLs contain no file path of its server, and former URLs name the same repositories": () =>
    Effect.gen(function* () {
      const { supports } = yield* RepoHost
      const repo = new Repo({ owner: supports.owner, name: RepoName.make("a.Name_") })
      const url = RepoUrl.urlOf(supports.url, repo)
      assert.notStrictEqual(new URL(url).protocol, "file:")
      for (const base of [supports.url, supports.formerUrl ?? supports.url]) {
        const given = RepoUrl.urlOf(base, repo)
        assert.deepStrictEqual(RepoUrl.at(supports, given), Option.some(repo))
        assert.strictEqual(RepoUrl.current(supports, given), url)
      }
    })
}
