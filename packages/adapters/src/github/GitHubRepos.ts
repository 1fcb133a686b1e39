/** Repositories on GitHub, or on an Enterprise Server: its REST API for what they are, git for what is in them. */
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
import * as Contents from "./Contents.ts"
import * as Credential from "./Credential.ts"
import { apiOf, fromConfig, type GitHubOptions, type GitHubUnavailable } from "./Options.ts"
import { RequestFailed, unavailable } from "./RequestFailed.ts"
import * as Requests from "./Requests.ts"
import * as Trees from "./Trees.ts"

const Described = Schema.Struct({
  default_branch: BranchName,
  private: Schema.Boolean,
  permissions: Schema.optionalKey(Schema.Struct({ push: Schema.Boolean }))
})

/** Branches that are asked for at once. */
const page = 100

const Branches = Schema.Array(Schema.Struct({ name: Schema.String, commit: Schema.Struct({ sha: CommitId }) }))

const isBranch = Schema.is(BranchName)

const User = Schema.Struct({ login: Schema.String })

/** What GitHub says of a name that another repository has. */
const taken = "name custom"

const make = (options: GitHubOptions) => {
  const { owner, timeout = "30 seconds", url = defaultGitHubUrl } = options
  const credential = Credential.of(options.token)
  const ask = Requests.make({ credential, apiUrl: options.apiUrl ?? apiOf(url), timeout })
  const limits = options.treeLimits ?? treeLimits
  const trees = Trees.make(ask, limits, options.treeRequests ?? 300)
  const contents = Contents.make(ask)
  const authorization = { url: `${url}/`, header: credential.header }
  const remoteOf = (repo: Repo) => ({ url: `${url}/${repo.owner}/${repo.name}.git`, authorization })
  const named = (repo: Repo) => ({ owner: repo.owner, repo: repo.name })
  const toRepository = (repo: Repo, described: typeof Described.Type) =>
    new Repository({ repo, defaultBranch: described.default_branch, isPrivate: described.private })

  const look = (repo: Repo) =>
    ask("GET /repos/{owner}/{repo}", named(repo), Requests.json(Described)).pipe(
      Effect.map(Option.some),
      Effect.catchIf(
        (refusal) => refusal.isAbsent,
        () => Effect.succeed(Option.none<typeof Described.Type>())
      )
    )

  /** The same answer means that there is no repository and that it has nothing there: another question tells. */
  const orElse = <A>(
    repo: Repo,
    asked: Effect.Effect<A, RequestFailed>,
    otherwise: (described: typeof Described.Type) => Effect.Effect<A, RequestFailed>
  ): Effect.Effect<A, RequestFailed | RepoNotFound> =>
    Effect.catchIf(
      asked,
      (refusal) => refusal.isAbsent,
      () =>
        Effect.flatMap(look(repo), (described): Effect.Effect<A, RequestFailed | RepoNotFound> =>
          Option.isSome(described) ? otherwise(described.value) : Effect.fail(new RepoNotFound({ repo }))
        )
    )

  /** Where the default branch does not exist, the commit of the branch that stands in for it. */
  const standInFor = (repo: Repo, { default_branch }: typeof Described.Type) =>
    Effect.map(
      ask("GET /repos/{owner}/{repo}/branches", { ...named(repo), per_page: page }, Requests.json(Branches)),
      (branches) =>
        branches.length === page || branches.some(({ name }) => name === default_branch)
          ? Option.none<CommitId>()
          : Option.map(
              Bundles.fallbackBranch(
                branches.flatMap(({ commit, name }) =>
                  isBranch(name) ? [{ branch: name, commit: commit.sha, ref: name }] : []
                )
              ),
              ({ commit }) => commit
            )
    )

  const createBy = (route: string, repo: Repo) =>
    ask(route, { org: repo.owner, name: repo.name, private: true }, Requests.json(Described))

  /** Users' own repositories are made by another request than organizations'. */
  const create = (repo: Repo) =>
    createBy("POST /orgs/{org}/repos", repo).pipe(
      Effect.catchIf(
        (refusal) => refusal.isAbsent,
        (refusal) =>
          Effect.flatMap(ask("GET /user", {}, Requests.json(User)), ({ login }) =>
            login.toLowerCase() === repo.owner.toLowerCase() ? createBy("POST /user/repos", repo) : Effect.fail(refusal)
          )
      )
    )

  const ensure = Effect.fnUntraced(function* (repo: Repo): Effect.fn.Return<Repository, RequestFailed> {
    const standing = yield* look(repo)
    if (Option.isSome(standing)) return toRepository(repo, standing.value)
    const made = yield* create(repo).pipe(
      // Somebody else was quicker; it may take a moment until it is shown.
      Effect.catchIf(
        (refusal) => refusal.codes.includes(taken),
        ({ cause, ...refusal }) =>
          Effect.flatMap(look(repo), (theirs) =>
            Effect.mapError(Effect.fromOption(theirs), () => new RequestFailed({ ...refusal, cause, retryable: true }))
          )
      )
    )
    return toRepository(repo, made)
  })

  const scrubbed = ({ code, operation, stderr }: Git.GitFailed) =>
    new Git.GitFailed({ operation, code, stderr: credential.scrub(stderr) })

  /** Why git failed: GitHub itself is asked, for what git says is for people. */
  const explained = Effect.fnUntraced(function* (
    operation: string,
    repo: Repo,
    failed: Git.GitFailed
  ): Effect.fn.Return<never, RepoNotFound | RepoUnavailable> {
    const standing = yield* Effect.mapError(look(repo), unavailable(operation))
    if (Option.isNone(standing)) return yield* new RepoNotFound({ repo })
    // 127: there is no git. 1 of a push: the other side understood it, and said no.
    const isNo =
      failed.code === 127 ||
      (failed.operation === "push" && (failed.code === 1 || standing.value.permissions?.push === false))
    return yield* new RepoUnavailable({ operation, retryable: !isNo, retryAfterMs: null, cause: scrubbed(failed) })
  })

  return RepoHost.of({
    supports: { name: "github", url, owner, publicUrl: url },
    ensure: (repo) => Effect.mapError(ensure(repo), unavailable("ensure")),
    find: (repo) =>
      look(repo).pipe(Effect.map(Option.map((seen) => toRepository(repo, seen))), Effect.mapError(unavailable("find"))),
    remove: (repo) =>
      ask("DELETE /repos/{owner}/{repo}", named(repo), Requests.discardBody).pipe(
        Effect.catchIf(
          (refusal) => refusal.isAbsent,
          () => Effect.void
        ),
        Effect.mapError(unavailable("remove"))
      ),
    tree: (repo, known) =>
      orElse(repo, trees(repo, known), (described) =>
        Effect.flatMap(
          standInFor(repo, described),
          Option.match({
            onNone: () => Effect.succeed(Trees.emptyTreeIfChanged(known)),
            onSome: (commit) => trees(repo, known, commit)
          })
        )
      ).pipe(Effect.catchTag("Refusal", unavailable("tree"))),
    readFile: Effect.fnUntraced(function* (repo, path) {
      const content = yield* orElse(repo, contents(repo, path), (described) =>
        Effect.flatMap(
          standInFor(repo, described),
          Option.match({
            onNone: () => Effect.succeed<Contents.Content>("notAFile"),
            onSome: (commit) =>
              Effect.catchIf(
                contents(repo, path, commit),
                (refusal) => refusal.isAbsent,
                () => Effect.succeed<Contents.Content>("notAFile")
              )
          })
        )
      ).pipe(Effect.catchTag("Refusal", unavailable("readFile")))
      if (content === "notAFile") return yield* new RepoFileNotFound({ path })
      if (content === "tooLarge") return yield* new RepoFileTooLarge({ path })
      return content
    }),
    isPublic: (repo) => AnonymousFetch.isPublic(url, repo),
    publicTree: (repo, known) => AnonymousFetch.tree(url, repo, known, limits),
    readPublicFile: (repo, path) => AnonymousFetch.readFile(url, repo, path),
    fetch: (repo, branch, have, readAs) =>
      readAs === "anonymous"
        ? AnonymousFetch.fetched(url, repo, branch, have)
        : Effect.catch(
            Bundles.fetchBundle(remoteOf(repo), branch, have),
            (failed): Effect.Effect<never, RepoNotFound | RepoRejected | RepoUnavailable> => {
              const rejection = Bundles.rejectionOf(failed)
              return rejection === undefined
                ? explained("fetch", repo, failed)
                : Effect.fail(new RepoRejected({ repo, ...rejection, cause: scrubbed(failed) }))
            }
          ),
    push: <E>(repo: Repo, branch: BranchName, bundle: Parameters<typeof Bundles.pushToRemote<E>>[2]) =>
      Effect.catch(
        Effect.scoped(Bundles.pushToRemote(remoteOf(repo), branch, bundle)),
        (failed): Effect.Effect<never, BundleRefused | E | PushRejected | RepoNotFound | RepoUnavailable> => {
          if (failed instanceof Git.GitFailed) return explained("push", repo, failed)
          if (failed instanceof Bundles.NonFastForward) return Effect.fail(new PushRejected({ repo, branch }))
          if (failed instanceof Bundles.BundleUnreadable) return Effect.fail(new BundleRefused({ cause: failed }))
          return Effect.fail(failed)
        }
      )
  })
}

/** Repositories at GitHub, or at an Enterprise Server. */
export const layer = (options: GitHubOptions): Layer.Layer<RepoHost, Git.GitMissing> =>
  Layer.effect(
    RepoHost,
    Effect.andThen(
      Effect.andThen(Git.ensureInstalled, Git.removeStaleWorkspaces),
      Effect.sync(() => make(options))
    )
  )

/** As the environment says: GITHUB_TOKEN, GITHUB_ORG, GITHUB_URL and GITHUB_API_URL. */
export const layerConfig: Layer.Layer<RepoHost, Git.GitMissing | GitHubUnavailable> = Layer.unwrap(
  Effect.map(fromConfig, layer)
)
