/** Repositories on this host's disk: bare ones, in a directory for each owner. */
import { emptyTree, type RepoPath, type TreeLimits, treeLimits } from "@castellan/domain/repo/FileTree.ts"
import { type BranchName, firstBranch, type Repo, Repository, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import {
  BundleRefused,
  PushRejected,
  RepoHost,
  RepoNotFound,
  RepoRejected,
  RepoUnavailable
} from "@castellan/domain/repo/RepoHost.ts"
import { Clock, Duration, Effect, Layer, Option, Schema, type Stream } from "effect"
import { randomBytes } from "node:crypto"
import { existsSync } from "node:fs"
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { pathToFileURL } from "node:url"
import * as AnonymousFetch from "../git/AnonymousFetch.ts"
import * as Bundles from "../git/Bundles.ts"
import * as Git from "../git/Git.ts"
import * as Listing from "../git/CommitFiles.ts"
import * as Settings from "../git/Settings.ts"

/** The directory can't hold repositories; the message says why. */
export class LocalReposUnavailable extends Schema.TaggedError<LocalReposUnavailable>()("LocalReposUnavailable", {
  message: Schema.String
}) {}

export interface LocalReposOptions {
  /** The directory for the repositories, made if need be. */
  readonly directory: string
  /** Whom the repositories belong to that are made for accounts. */
  readonly owner?: RepoOwner
  /** What the URLs of repositories begin with that anyone may read; https://github.com if not said. */
  readonly publicUrl?: string
  /** How much of a tree is read; `treeLimits` of the domain if not said. */
  readonly treeLimits?: TreeLimits
}

/** Milliseconds after which what is being made belongs to nobody any more. */
const abandonedAfter = 10 * 60_000

/** Objects that lie about singly before git is to put them together. */
const tidied: ReadonlyArray<readonly [string, string]> = [
  ["gc.auto", "2000"],
  ["gc.autoDetach", "false"]
]

/** How long git may tidy up. What it had begun then is removed by a later attempt. */
const tidiedWithin = Duration.minutes(10)

const codeOf = (cause: unknown) => (cause as NodeJS.ErrnoException).code

const removed = (path: string) => rm(path, { recursive: true, force: true, maxRetries: 3 })

const attempt = <A>(operation: string, work: () => Promise<A>) =>
  Effect.tryPromise({ try: work, catch: (cause) => new RepoUnavailable({ ...nothingSaid, operation, cause }) })

const nothingSaid = { retryable: true, retryAfterMs: null }

const unavailable = (operation: string, cause: Git.GitFailed) =>
  new RepoUnavailable({ ...nothingSaid, operation, retryable: cause.code !== 127, cause })

const make = Effect.fnUntraced(function* (root: string, owner: RepoOwner, publicUrl: string, limits: TreeLimits) {
  const making = join(root, ".making")
  const trash = join(root, ".trash")

  const scope = yield* Effect.scope

  // No owner's name begins with a dot.
  const pathOf = (repo: Repo) => join(root, repo.owner.toLowerCase(), `${repo.name.toLowerCase()}.git`)

  const fresh = (directory: string) => join(directory, randomBytes(8).toString("hex"))

  /** What is asked of a repository that may be there, and may be gone before the answer is. */
  const within = <A, E, R>(
    operation: string,
    repo: Repo,
    use: (path: string) => Effect.Effect<A, E | Git.GitFailed, R>
  ) =>
    Effect.suspend(() => {
      const path = pathOf(repo)
      const gone = () => (existsSync(path) ? Option.none() : Option.some(new RepoNotFound({ repo })))
      const before = gone()
      if (Option.isSome(before)) return Effect.fail(before.value)
      return Effect.mapError(use(path), (error) =>
        error instanceof Git.GitFailed
          ? Option.getOrElse(gone(), () => unavailable(operation, error))
          : (error as Exclude<E, Git.GitFailed>)
      )
    })

  const repository = (repo: Repo, path: string) =>
    Effect.map(
      Bundles.defaultBranchOf(path),
      (defaultBranch) => new Repository({ repo, defaultBranch, isPrivate: true })
    )

  const find = (repo: Repo) =>
    within("find", repo, (path) => repository(repo, path)).pipe(
      Effect.asSome,
      Effect.catchTag("RepoNotFound", () => Effect.succeedNone)
    )

  /** Made aside and then put in its place whole: whoever comes second finds the place taken. */
  const create = Effect.fnUntraced(function* (path: string) {
    const half = fresh(making)
    const put = attempt("ensure", async () => {
      await mkdir(dirname(path), { recursive: true, mode: 0o700 })
      await rename(half, path).catch((cause) => {
        if (codeOf(cause) !== "ENOTEMPTY" && codeOf(cause) !== "EEXIST") throw cause
      })
    })
    yield* Git.text(["init", "--bare", "--quiet", "--template=", `--initial-branch=${firstBranch}`, half]).pipe(
      Effect.mapError((failed) => unavailable("ensure", failed)),
      Effect.andThen(put),
      Effect.ensuring(Effect.promise(() => removed(half)))
    )
  })

  const ensure = (repo: Repo): Effect.Effect<Repository, RepoUnavailable> =>
    Effect.flatMap(find(repo), (found) =>
      Option.isSome(found)
        ? Effect.succeed(found.value)
        : Effect.andThen(
            create(pathOf(repo)),
            Effect.suspend(() => ensure(repo))
          )
    )

  const remove = (repo: Repo) =>
    attempt("remove", async () => {
      const gone = fresh(trash)
      const isMoved = await rename(pathOf(repo), gone).then(
        () => true,
        (cause) => {
          if (codeOf(cause) !== "ENOENT") throw cause
          return false
        }
      )
      // What stays of it now is no repository any more, and goes with the next start.
      if (isMoved) await removed(gone).catch(() => undefined)
    })

  /** Lets git tidy up, when it finds that worth its while. Nobody waits for it. */
  const tidy = (path: string) =>
    Effect.forkIn(
      Effect.ignore(
        Git.text(["gc", "--auto", "--quiet"], { repository: path, settings: tidied, timeout: tidiedWithin })
      ),
      scope
    )

  yield* attempt("open", async () => {
    for (const directory of [root, making, trash]) await mkdir(directory, { recursive: true, mode: 0o700 })
  })
  const now = yield* Clock.currentTimeMillis
  yield* attempt("open", async () => {
    for (const name of await readdir(making)) await removeOld(join(making, name), now - abandonedAfter)
  })
  yield* Effect.forkDetach(
    Effect.ignore(
      attempt("open", async () => {
        for (const name of await readdir(trash)) await removed(join(trash, name)).catch(() => undefined)
      })
    )
  )

  return RepoHost.of({
    supports: {
      name: "local",
      url: "local://repositories",
      formerUrl: pathToFileURL(root).href.replace(/\/$/, ""),
      owner,
      publicUrl
    },
    ensure,
    find,
    remove,
    tree: (repo, known) =>
      within("tree", repo, (path) =>
        Effect.gen(function* () {
          const head = yield* Bundles.resolveBranch(path, null)
          const revision = Option.match(head, { onNone: () => "empty", onSome: ({ commit }) => commit as string })
          if (revision === known) return Option.none()
          if (Option.isNone(head)) return Option.some(emptyTree(revision))
          return Option.some(yield* Listing.treeOf(path, revision, true, limits))
        })
      ),
    readFile: (repo, file: RepoPath) =>
      within("readFile", repo, (path) =>
        Effect.gen(function* () {
          const head = yield* Bundles.resolveBranch(path, null)
          return Option.isNone(head)
            ? yield* Listing.notFound(file)
            : yield* Listing.readFile(path, head.value.commit, file)
        })
      ),
    isPublic: (repo) => AnonymousFetch.isPublic(publicUrl, repo),
    publicTree: (repo, known) => AnonymousFetch.tree(publicUrl, repo, known, limits),
    readPublicFile: (repo, path) => AnonymousFetch.readFile(publicUrl, repo, path),
    fetch: (repo, branch, have, readAs) =>
      readAs === "anonymous"
        ? AnonymousFetch.fetched(publicUrl, repo, branch, have)
        : within("fetch", repo, (path) =>
            Effect.mapError(Bundles.createBundle(path, branch, have), (failed) => {
              const rejection = Bundles.rejectionOf(failed)
              return rejection === undefined ? failed : new RepoRejected({ repo, ...rejection, cause: failed })
            })
          ),
    push: <E>(repo: Repo, branch: BranchName, bundle: Stream.Stream<Uint8Array, E>) =>
      within("push", repo, (path) =>
        Effect.scoped(Bundles.push(path, branch, bundle)).pipe(
          Effect.tap(tidy(path)),
          Effect.mapError((error) => {
            if (error instanceof Bundles.BundleUnreadable) return new BundleRefused({ cause: error })
            return error instanceof Bundles.NonFastForward ? new PushRejected({ repo, branch }) : error
          })
        )
      )
  })
})

const removeOld = async (path: string, before: number): Promise<void> => {
  const known = await stat(path).catch(() => undefined)
  if (known !== undefined && known.mtimeMs < before) await removed(path)
}

/** Repositories below a directory. */
export const layer = (options: LocalReposOptions): Layer.Layer<RepoHost, Git.GitMissing | LocalReposUnavailable> =>
  Layer.effect(
    RepoHost,
    Effect.gen(function* () {
      yield* Git.ensureInstalled
      yield* Git.removeStaleWorkspaces
      const root = resolve(options.directory)
      const {
        owner = RepoOwner.make("castellan"),
        publicUrl = Settings.defaultGitHubUrl,
        treeLimits: limits = treeLimits
      } = options
      return yield* make(root, owner, publicUrl, limits).pipe(
        Effect.mapError(
          ({ cause }) =>
            new LocalReposUnavailable({ message: `${root} can't be used for repositories: ${String(cause)}` })
        )
      )
    })
  )

/** As the environment says: GITHUB_URL is where the repositories are that anyone may read. */
export const layerConfig = (options: Pick<LocalReposOptions, "directory">) =>
  Layer.unwrap(
    Settings.url("GITHUB_URL", Settings.defaultGitHubUrl).pipe(
      Effect.mapError((message) => new LocalReposUnavailable({ message })),
      Effect.map((publicUrl) => layer({ ...options, publicUrl }))
    )
  )
