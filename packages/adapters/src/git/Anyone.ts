/** Repositories as anyone sees them who has no credential: over HTTP, and nothing is sent that tells who asks. */
import type { BranchName, CommitId, Repo } from "@castellan/domain/repo/Repo.ts"
import { type Fetched, RepoNotFound, RepoRejected, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { Duration, Effect, type Option, type Scope } from "effect"
import * as Bundles from "./Bundles.ts"
import type * as Git from "./Git.ts"

/** How long a server may take to say why git failed. */
const patience = Duration.seconds(30)

/** What a server answers to git's first question; its body is not waited for. */
const answered = (url: string) =>
  Effect.tryPromise(async (signal) => {
    const response = await fetch(`${url}/info/refs?service=git-upload-pack`, {
      headers: { "user-agent": "git/castellan", "git-protocol": "version=2" },
      redirect: "manual",
      signal
    })
    await response.body?.cancel()
    return { status: response.status, after: response.headers.get("retry-after") }
  }).pipe(Effect.timeout(patience))

/** Why git failed: the server is asked the same once more, for what git says is for people. */
const explained = Effect.fnUntraced(function* (
  url: string,
  repo: Repo,
  failed: Git.GitFailed
): Effect.fn.Return<never, RepoNotFound | RepoRejected | RepoUnavailable> {
  const rejection = Bundles.rejection(failed)
  if (rejection !== undefined) return yield* new RepoRejected({ repo, ...rejection, cause: failed })
  const unavailable = { operation: "fetch", retryable: true, retryAfterMs: null, cause: failed }
  if (failed.code === 127) return yield* new RepoUnavailable({ ...unavailable, retryable: false })
  const { after, status } = yield* Effect.mapError(answered(url), () => new RepoUnavailable(unavailable))
  const retryAfterMs = after !== null && /^\d+$/.test(after) ? Number(after) * 1000 : null
  const isBusy = status >= 500 || status === 408 || status === 429 || retryAfterMs !== null
  // Who is not let in is not told whether there is anything; nor is somebody who is sent on to another name.
  if (!isBusy && status >= 300) return yield* new RepoNotFound({ repo })
  return yield* new RepoUnavailable({ ...unavailable, retryAfterMs })
})

/** A branch of the repository below a URL, as `Bundles.fetched` gives it. */
export const fetched = (
  publicUrl: string,
  repo: Repo,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId>
): Effect.Effect<Option.Option<Fetched>, RepoNotFound | RepoRejected | RepoUnavailable, Scope.Scope> => {
  const url = RepoUrl.urlOf(publicUrl, repo)
  return Effect.catch(Bundles.fetchedFrom({ url }, branch, have), (failed) => explained(url, repo, failed))
}
