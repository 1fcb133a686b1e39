/** Keeps repositories on GitHub or an Enterprise Server: metadata, trees and files by REST, commits by git. */
import { treeLimits } from "@castellan/domain/repo/FileTree.ts"
import { BranchName, CommitId, type Repo, Repository } from "@castellan/domain/repo/Repo.ts"
import {
  BundleRefused,
  PushRejected,
  RepoFileNotFound,
  RepoFileTooLarge,
  RepoHost,
  RepoNotFound,
  RepoRejected,
  RepoUnavailable
} from "@castellan/domain/repo/RepoHost.ts"
import { Effect, Layer, Option, Schema } from "effect"
import * as AnonymousFetch from "../git/AnonymousFetch.ts"
import * as Bundles from "../git/Bundles.ts"
import * as Git from "../git/Git.ts"
import { defaultGitHubUrl } from "../git/Settings.ts"
import { importOptional } from "../process/optionalPackage.ts"
import * as Contents from "./Contents.ts"
import * as Credential from "./Credential.ts"
import { apiOf, fromConfig, type GitHubOptions, GitHubUnavailable } from "./Options.ts"
import { RequestFailed, unavailable } from "./RequestFailed.ts"
import * as Requests from "./Requests.ts"
import * as Trees from "./Trees.ts"

const RepositoryResponse = Schema.Struct({
  default_branch: BranchName,
  private: Schema.Boolean,
  permissions: Schema.optionalKey(Schema.Struct({ push: Schema.Boolean }))
})

type RepositoryResponse = typeof RepositoryResponse.Type

/** GitHub's largest page. */
const pageSize = 100

const BranchesResponse = Schema.Array(Schema.Struct({ name: Schema.String, commit: Schema.Struct({ sha: CommitId }) }))

const UserResponse = Schema.Struct({ login: Schema.String })

const isBranch = Schema.is(BranchName)

/** GitHub's error for a name that is in use. */
const nameTaken = "name custom"

const paramsOf = (repo: Repo) => ({ owner: repo.owner, repo: repo.name })

const toRepository = (repo: Repo, response: RepositoryResponse) =>
  new Repository({ repo, defaultBranch: response.default_branch, isPrivate: response.private })

/** Finds and creates repositories by REST. */
const makeMetadata = (send: Requests.SendRequest) => {
  const get = (repo: Repo) =>
    send("GET /repos/{owner}/{repo}", paramsOf(repo), Requests.json(RepositoryResponse)).pipe(
      Effect.map(Option.some),
      Effect.catchIf(
        (failure) => failure.isAbsent,
        () => Effect.succeed(Option.none<RepositoryResponse>())
      )
    )

  /**
   * GitHub answers 404 both for a missing repository and for a repository without that content. This requests the
   * repository to tell which, and continues with `otherwise` if it exists.
   */
  const orElse = <A>(
    repo: Repo,
    request: Effect.Effect<A, RequestFailed>,
    otherwise: (repository: RepositoryResponse) => Effect.Effect<A, RequestFailed>
  ): Effect.Effect<A, RequestFailed | RepoNotFound> =>
    Effect.catchIf(
      request,
      (failure) => failure.isAbsent,
      () =>
        Effect.flatMap(get(repo), (found): Effect.Effect<A, RequestFailed | RepoNotFound> =>
          Option.isSome(found) ? otherwise(found.value) : Effect.fail(new RepoNotFound({ repo }))
        )
    )

  /** The commit of the branch that replaces a default branch which does not exist. */
  const fallbackCommit = (repo: Repo, { default_branch }: RepositoryResponse) =>
    Effect.map(
      send(
        "GET /repos/{owner}/{repo}/branches",
        { ...paramsOf(repo), per_page: pageSize },
        Requests.json(BranchesResponse)
      ),
      (branches) => {
        if (branches.length === pageSize || branches.some(({ name }) => name === default_branch)) return Option.none()
        const heads = branches.flatMap(({ commit, name }) =>
          isBranch(name) ? [{ branch: name, commit: commit.sha, ref: name }] : []
        )
        return Option.map(Bundles.fallbackBranch(heads), ({ commit }) => commit)
      }
    )

  const createBy = (route: string, repo: Repo) =>
    send(route, { org: repo.owner, name: repo.name, private: true }, Requests.json(RepositoryResponse))

  /** Users' repositories are created by another request than organizations'. */
  const create = (repo: Repo) =>
    createBy("POST /orgs/{org}/repos", repo).pipe(
      Effect.catchIf(
        (failure) => failure.isAbsent,
        (failure) =>
          Effect.flatMap(send("GET /user", {}, Requests.json(UserResponse)), ({ login }) =>
            login.toLowerCase() === repo.owner.toLowerCase() ? createBy("POST /user/repos", repo) : Effect.fail(failure)
          )
      )
    )

  const ensure = Effect.fnUntraced(function* (repo: Repo): Effect.fn.Return<Repository, RequestFailed> {
    const existing = yield* get(repo)
    if (Option.isSome(existing)) return toRepository(repo, existing.value)
    const created = yield* create(repo).pipe(
      // Another server created it first. GitHub may not show it at once, so the error is retryable.
      Effect.catchIf(
        (failure) => failure.codes.includes(nameTaken),
        ({ cause, ...failure }) =>
          Effect.flatMap(get(repo), (found) =>
            Effect.mapError(Effect.fromOption(found), () => new RequestFailed({ ...failure, cause, retryable: true }))
          )
      )
    )
    return toRepository(repo, created)
  })

  return { get, orElse, fallbackCommit, ensure }
}

type Metadata = ReturnType<typeof makeMetadata>

const makeTree =
  ({ fallbackCommit, orElse }: Metadata, trees: ReturnType<typeof Trees.make>) =>
  (repo: Repo, known: string | null) =>
    orElse(repo, trees(repo, known), (repository) =>
      Effect.flatMap(
        fallbackCommit(repo, repository),
        Option.match({
          onNone: () => Effect.succeed(Trees.emptyTreeIfChanged(known)),
          onSome: (commit) => trees(repo, known, commit)
        })
      )
    ).pipe(Effect.catchTag("RequestFailed", unavailable("tree")))

const makeReadFile = ({ fallbackCommit, orElse }: Metadata, contents: ReturnType<typeof Contents.make>) =>
  Effect.fnUntraced(function* (repo: Repo, path: Parameters<typeof contents>[1]) {
    const notAFile = () => Effect.succeed<Contents.Content>("notAFile")
    const content = yield* orElse(repo, contents(repo, path), (repository) =>
      Effect.flatMap(
        fallbackCommit(repo, repository),
        Option.match({
          onNone: notAFile,
          onSome: (commit) => Effect.catchIf(contents(repo, path, commit), (failure) => failure.isAbsent, notAFile)
        })
      )
    ).pipe(Effect.catchTag("RequestFailed", unavailable("readFile")))
    if (content === "notAFile") return yield* new RepoFileNotFound({ path })
    if (content === "tooLarge") return yield* new RepoFileTooLarge({ path })
    return content
  })

/** Explains a failure of git by asking GitHub about the repository, because git's messages are not made for programs. */
const makeExplain = ({ get }: Metadata, scrubbed: (failed: Git.GitFailed) => Git.GitFailed) =>
  Effect.fnUntraced(function* (
    operation: string,
    repo: Repo,
    failed: Git.GitFailed
  ): Effect.fn.Return<never, RepoNotFound | RepoUnavailable> {
    const existing = yield* Effect.mapError(get(repo), unavailable(operation))
    if (Option.isNone(existing)) return yield* new RepoNotFound({ repo })
    // 127: git is not installed. 1 of a push: the server understood it and refused.
    const isFinal =
      failed.code === 127 ||
      (failed.operation === "push" && (failed.code === 1 || existing.value.permissions?.push === false))
    return yield* new RepoUnavailable({ operation, retryable: !isFinal, retryAfterMs: null, cause: scrubbed(failed) })
  })

const make = (sdk: Requests.Sdk, options: GitHubOptions) => {
  const { owner, timeout = "30 seconds", url = defaultGitHubUrl } = options
  const credential = Credential.of(options.token)
  const send = Requests.make(sdk, { credential, apiUrl: options.apiUrl ?? apiOf(url), timeout })
  const limits = options.treeLimits ?? treeLimits
  const metadata = makeMetadata(send)
  const authorization = { url: `${url}/`, header: credential.header }
  const remoteOf = (repo: Repo) => ({ url: `${url}/${repo.owner}/${repo.name}.git`, authorization })
  const scrubbed = ({ code, operation, stderr }: Git.GitFailed) =>
    new Git.GitFailed({ operation, code, stderr: credential.scrub(stderr) })
  const explain = makeExplain(metadata, scrubbed)

  return RepoHost.of({
    supports: { name: "github", url, owner, publicUrl: url },
    ensure: (repo) => Effect.mapError(metadata.ensure(repo), unavailable("ensure")),
    find: (repo) =>
      metadata
        .get(repo)
        .pipe(Effect.map(Option.map((found) => toRepository(repo, found))), Effect.mapError(unavailable("find"))),
    remove: (repo) =>
      send("DELETE /repos/{owner}/{repo}", paramsOf(repo), Requests.discardBody).pipe(
        Effect.catchIf(
          (failure) => failure.isAbsent,
          () => Effect.void
        ),
        Effect.mapError(unavailable("remove"))
      ),
    tree: makeTree(metadata, Trees.make(send, limits, options.treeRequests ?? 300)),
    readFile: makeReadFile(metadata, Contents.make(send)),
    isPublic: (repo) => AnonymousFetch.isPublic(url, repo),
    publicTree: (repo, known) => AnonymousFetch.tree(url, repo, known, limits),
    readPublicFile: (repo, path) => AnonymousFetch.readFile(url, repo, path),
    fetch: (repo, branch, have, readAs) =>
      readAs === "anonymous"
        ? AnonymousFetch.fetchBundle(url, repo, branch, have)
        : Effect.catch(
            Bundles.fetchBundle(remoteOf(repo), branch, have),
            (failed): Effect.Effect<never, RepoNotFound | RepoRejected | RepoUnavailable> => {
              const rejection = Bundles.rejectionOf(failed)
              return rejection === undefined
                ? explain("fetch", repo, failed)
                : Effect.fail(new RepoRejected({ repo, ...rejection, cause: scrubbed(failed) }))
            }
          ),
    push: <E>(repo: Repo, branch: BranchName, bundle: Parameters<typeof Bundles.pushToRemote<E>>[2]) =>
      Effect.catch(
        Effect.scoped(Bundles.pushToRemote(remoteOf(repo), branch, bundle)),
        (failed): Effect.Effect<never, BundleRefused | E | PushRejected | RepoNotFound | RepoUnavailable> => {
          if (failed instanceof Git.GitFailed) return explain("push", repo, failed)
          if (failed instanceof Bundles.NonFastForward) return Effect.fail(new PushRejected({ repo, branch }))
          if (failed instanceof Bundles.BundleUnreadable) return Effect.fail(new BundleRefused({ cause: failed }))
          return Effect.fail(failed)
        }
      )
  })
}

const loadSdk = importOptional(
  "@octokit/rest",
  "keep repositories on GitHub",
  (): Promise<Requests.Sdk> => import("@octokit/rest")
).pipe(Effect.mapError(({ message }) => new GitHubUnavailable({ message })))

/** Repositories on GitHub. Fails if git is missing or the package `@octokit/rest` is not installed. */
export const layer = (options: GitHubOptions): Layer.Layer<RepoHost, Git.GitMissing | GitHubUnavailable> =>
  Layer.effect(
    RepoHost,
    Effect.gen(function* () {
      yield* Git.ensureInstalled
      yield* Git.removeStaleWorkspaces
      return make(yield* loadSdk, options)
    })
  )

/** Configured by GITHUB_TOKEN, GITHUB_ORG, GITHUB_URL and GITHUB_API_URL. */
export const layerConfig: Layer.Layer<RepoHost, Git.GitMissing | GitHubUnavailable> = Layer.unwrap(
  Effect.map(fromConfig, layer)
)
