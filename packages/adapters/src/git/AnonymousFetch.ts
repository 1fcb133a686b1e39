/** Reads public repositories over HTTP without any credential. */
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
import * as CommitFiles from "./CommitFiles.ts"

/** How long the request that explains a failure of git may take. */
const probeTimeout = Duration.seconds(30)

/** The status of the server's response to git's first request. */
const probe = (url: string) =>
  Effect.tryPromise(async (signal) => {
    const response = await fetch(`${url}/info/refs?service=git-upload-pack`, {
      headers: { "user-agent": "git/castellan", "git-protocol": "version=2" },
      redirect: "manual",
      signal
    })
    await response.body?.cancel()
    return { status: response.status, retryAfter: response.headers.get("retry-after") }
  }).pipe(Effect.timeout(probeTimeout))

/** Explains a failure of git by repeating its first request, because git's messages are not made for programs. */
const explain = Effect.fnUntraced(function* (
  url: string,
  repo: Repo,
  failed: Git.GitFailed
): Effect.fn.Return<never, RepoNotFound | RepoRejected | RepoUnavailable> {
  const rejection = Bundles.rejectionOf(failed)
  if (rejection !== undefined) return yield* new RepoRejected({ repo, ...rejection, cause: failed })
  const unavailable = { operation: "fetch", retryable: true, retryAfterMs: null, cause: failed }
  if (failed.code === 127) return yield* new RepoUnavailable({ ...unavailable, retryable: false })
  const { retryAfter, status } = yield* Effect.mapError(probe(url), () => new RepoUnavailable(unavailable))
  const retryAfterMs = retryAfter !== null && /^\d+$/.test(retryAfter) ? Number(retryAfter) * 1000 : null
  const isBusy = status >= 500 || status === 408 || status === 429 || retryAfterMs !== null
  // Servers hide from anonymous readers whether a private repository exists. A redirect leads to another name.
  if (!isBusy && status >= 300) return yield* new RepoNotFound({ repo })
  return yield* new RepoUnavailable({ ...unavailable, retryAfterMs })
})

/** Fetches a branch of a public repository, as `Bundles.fetchBundle` does. */
export const fetchBundle = (
  publicUrl: string,
  repo: Repo,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId>
): Effect.Effect<Option.Option<Fetched>, RepoNotFound | RepoRejected | RepoUnavailable, Scope.Scope> => {
  const url = RepoUrl.urlOf(publicUrl, repo)
  return Effect.catch(Bundles.fetchBundle({ url }, branch, have), (failed) => explain(url, repo, failed))
}

/** Explains failures of inspections. Those do not check objects, so a rejected object means that the inspection failed. */
const explainInspection =
  (url: string, repo: Repo) =>
  <A, E, R>(inspection: Effect.Effect<A, E | Git.GitFailed, R>) =>
    Effect.catchIf(inspection, isGitFailed, (failed) =>
      Effect.catchTag(
        explain(url, repo, failed),
        "RepoRejected",
        (rejected) =>
          new RepoUnavailable({ operation: "tree", retryable: false, retryAfterMs: null, cause: rejected.cause })
      )
    )

const isGitFailed = (error: unknown): error is Git.GitFailed =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "GitFailed"

/** Whether the repository can be read without a credential. */
export const isPublic = (publicUrl: string, repo: Repo): Effect.Effect<boolean, RepoUnavailable> => {
  const url = RepoUrl.urlOf(publicUrl, repo)
  return Bundles.remoteHead({ url }).pipe(
    Effect.as(true),
    explainInspection(url, repo),
    Effect.catchTag("RepoNotFound", () => Effect.succeed(false))
  )
}

/** The tree of the default branch; none if it still has the revision `known`. */
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
    return Option.some(yield* CommitFiles.treeOf(repository, revision, false, limits))
  }).pipe(Effect.scoped, explainInspection(url, repo))
}

/** The bytes of a file of the default branch. */
export const readFile = (
  publicUrl: string,
  repo: Repo,
  path: RepoPath
): Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | RepoNotFound | RepoUnavailable> => {
  const url = RepoUrl.urlOf(publicUrl, repo)
  return Effect.gen(function* () {
    const head = yield* Bundles.remoteHead({ url })
    if (Option.isNone(head)) return yield* CommitFiles.notFound(path)
    const repository = yield* Bundles.shallowFetch({ url }, head.value)
    return yield* CommitFiles.readFile(repository, head.value.commit, path, Bundles.inspectionLimits)
  }).pipe(Effect.scoped, explainInspection(url, repo))
}
