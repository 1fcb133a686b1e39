/** Repositories as anyone sees them who has no credential: over HTTP, and nothing is sent that tells who asks. */
import { emptyTree, type FileTree, type RepoPath, type TreeLimits } from "@castellan/domain/repo/FileTree.ts"
import type { BranchName, CommitId, Repo } from "@castellan/domain/repo/Repo.ts"
import {
  type Fetched,
  type RepoFileNotFound,
  type RepoFileTooLarge,
  RepoNotFound,
  RepoRejected,
  RepoUnavailable
} from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { Duration, Effect, Option, type Scope } from "effect"
import * as Bundles from "./Bundles.ts"
import type * as Git from "./Git.ts"
import * as Listing from "./CommitFiles.ts"

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
  const rejection = Bundles.rejectionOf(failed)
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
  return Effect.catch(Bundles.fetchBundle({ url }, branch, have), (failed) => explained(url, repo, failed))
}

/** What failed of a look, which says nothing of the objects themselves. */
const looked =
  (url: string, repo: Repo) =>
  <A, E, R>(look: Effect.Effect<A, E | Git.GitFailed, R>) =>
    Effect.catchIf(look, isGitFailed, (failed) =>
      Effect.catchTag(
        explained(url, repo, failed),
        "RepoRejected",
        (rejected) =>
          new RepoUnavailable({ operation: "tree", retryable: false, retryAfterMs: null, cause: rejected.cause })
      )
    )

const isGitFailed = (error: unknown): error is Git.GitFailed =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "GitFailed"

/** Whether anyone may read the repository below a URL. */
export const isPublic = (publicUrl: string, repo: Repo): Effect.Effect<boolean, RepoUnavailable> => {
  const url = RepoUrl.urlOf(publicUrl, repo)
  return Bundles.remoteHead({ url }).pipe(
    Effect.as(true),
    looked(url, repo),
    Effect.catchTag("RepoNotFound", () => Effect.succeed(false))
  )
}

/** The tree of its default branch; none if it is still of the revision `known`. */
export const tree = (
  publicUrl: string,
  repo: Repo,
  known: string | null,
  limits: TreeLimits
): Effect.Effect<Option.Option<FileTree>, RepoNotFound | RepoUnavailable> => {
  const url = RepoUrl.urlOf(publicUrl, repo)
  return Effect.gen(function* () {
    const head = yield* Bundles.remoteHead({ url })
    const revision = Option.match(head, { onNone: () => "empty", onSome: ({ commit }) => commit as string })
    if (revision === known) return Option.none<FileTree>()
    if (Option.isNone(head)) return Option.some(emptyTree(revision))
    const repository = yield* Bundles.shallowFetch({ url }, head.value)
    return Option.some(yield* Listing.treeOf(repository, revision, false, limits))
  }).pipe(Effect.scoped, looked(url, repo))
}

/** The bytes of a file of its default branch. */
export const readFile = (
  publicUrl: string,
  repo: Repo,
  path: RepoPath
): Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | RepoNotFound | RepoUnavailable> => {
  const url = RepoUrl.urlOf(publicUrl, repo)
  return Effect.gen(function* () {
    const head = yield* Bundles.remoteHead({ url })
    if (Option.isNone(head)) return yield* Listing.notFound(path)
    const repository = yield* Bundles.shallowFetch({ url }, head.value)
    return yield* Listing.readFile(repository, head.value.commit, path, Bundles.inspectionLimits)
  }).pipe(Effect.scoped, looked(url, repo))
}
