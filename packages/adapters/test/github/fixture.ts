/** Fixtures of the tests of the GitHub adapter. */
import { BranchName, firstBranch, Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import type { Content } from "@castellan/testkit/contracts/RepoHost/Author.ts"
import { GitHubEmulator } from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { author } from "../git/author.ts"

/** A repository name of the adapter's owner. */
export const repoOf = (name: string) =>
  Effect.map(RepoHost, ({ supports }) => new Repo({ owner: supports.owner, name: RepoName.make(name) }))

/** Pushes files to a branch of a repository, which is created if missing. */
export const pushed = Effect.fnUntraced(function* (
  repo: Repo,
  files: Readonly<Record<string, Content>>,
  branch: BranchName = firstBranch
) {
  const host = yield* RepoHost
  yield* host.ensure(repo)
  const one = yield* author
  const commit = yield* one.commit(files)
  yield* host.push(repo, branch, Stream.make(yield* one.bundle({ [branch]: commit })))
  return commit
}, Effect.scoped)

/** The requests that an effect causes, as `GET /repos/…`. */
export const requestsOf = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const github = yield* GitHubEmulator
  const before = github.requests.length
  yield* Effect.ignore(effect)
  return github.requests.slice(before).map(({ method, path, status }) => `${method} ${path} ${status}`)
})

/** The RepoUnavailable that an effect fails with. */
export const unavailable = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const error = yield* Effect.flip(effect)
  assert.instanceOf(error, RepoUnavailable)
  return error
})
