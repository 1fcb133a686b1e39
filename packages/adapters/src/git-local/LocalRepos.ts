/** Keeps bare repositories in a directory of the server, one subdirectory per owner. */
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
import * as CommitFiles from "../git/CommitFiles.ts"
import * as Git from "../git/Git.ts"
import * as Settings from "../git/Settings.ts"

/** The directory can't hold repositories. The message says why. */
export class LocalReposUnavailable extends Schema.TaggedError<LocalReposUnavailable>()("LocalReposUnavailable", {
  message: Schema.String
}) {}

export interface LocalReposOptions {
  /** The directory of the repositories. It is created if missing. */
  readonly directory: string
  /** The owner of the repositories that are created for accounts; `castellan` by default. */
  readonly owner?: RepoOwner
  /** The base URL of public repositories; https://github.com by default. */
  readonly publicUrl?: string
  /** How much of a tree is read; the domain's `treeLimits` by default. */
  readonly treeLimits?: TreeLimits
}

/** Milliseconds after which an unfinished repository belongs to a process that was killed. */
const abandonedAfter = 10 * 60_000

/** `gc --auto` packs a repository with more loose objects than this. */
const gcSettings: ReadonlyArray<readonly [string, string]> = [
  ["gc.auto", "2000"],
  ["gc.autoDetach", "false"]
]

/** How long `gc` may run. A later run removes the files of one that was ended. */
const gcTimeout = Duration.minutes(10)

const codeOf = (cause: unknown) => (cause as NodeJS.ErrnoException).code

const removeTree = (path: string) => rm(path, { recursive: true, force: true, maxRetries: 3 })

const retryable = { retryable: true, retryAfterMs: null }

const attempt = <A>(operation: string, work: () => Promise<A>) =>
  Effect.tryPromise({ try: work, catch: (cause) => new RepoUnavailable({ ...retryable, operation, cause }) })

const unavailable = (operation: string, cause: Git.GitFailed) =>
  new RepoUnavailable({ ...retryable, operation, retryable: cause.code !== 127, cause })

const removeOld = async (path: string, before: number): Promise<void> => {
  const known = await stat(path).catch(() => undefined)
  if (known !== undefined && known.mtimeMs < before) await removeTree(path)
}

/** The directories of the adapter. No owner's name begins with a dot. */
interface Layout {
  readonly root: string
  /** For repositories that are being created. */
  readonly staging: string
  /** For repositories that are being removed. */
  readonly trash: string
}

const pathOf = ({ root }: Layout, repo: Repo) => join(root, repo.owner.toLowerCase(), `${repo.name.toLowerCase()}.git`)

const newPath = (directory: string) => join(directory, randomBytes(8).toString("hex"))

/** Uses a repository that may be missing, or be removed meanwhile, which fails with `RepoNotFound`. */
const withRepository = <A, E, R>(
  layout: Layout,
  operation: string,
  repo: Repo,
  use: (path: string) => Effect.Effect<A, E | Git.GitFailed, R>
) =>
  Effect.suspend(() => {
    const path = pathOf(layout, repo)
    const notFound = () => (existsSync(path) ? Option.none() : Option.some(new RepoNotFound({ repo })))
    const missing = notFound()
    if (Option.isSome(missing)) return Effect.fail(missing.value)
    return Effect.mapError(use(path), (error) =>
      error instanceof Git.GitFailed
        ? Option.getOrElse(notFound(), () => unavailable(operation, error))
        : (error as Exclude<E, Git.GitFailed>)
    )
  })

const find = (layout: Layout, repo: Repo) =>
  withRepository(layout, "find", repo, (path) =>
    Effect.map(
      Bundles.defaultBranchOf(path),
      (defaultBranch) => new Repository({ repo, defaultBranch, isPrivate: true })
    )
  ).pipe(
    Effect.asSome,
    Effect.catchTag("RepoNotFound", () => Effect.succeedNone)
  )

/**
 * Creates a repository in the staging directory and renames it. A repository that another process created first stays.
 */
const create = Effect.fnUntraced(function* (layout: Layout, path: string) {
  const staged = newPath(layout.staging)
  const publish = attempt("ensure", async () => {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await rename(staged, path).catch((cause) => {
      if (codeOf(cause) !== "ENOTEMPTY" && codeOf(cause) !== "EEXIST") throw cause
    })
  })
  yield* Git.text(["init", "--bare", "--quiet", "--template=", `--initial-branch=${firstBranch}`, staged]).pipe(
    Effect.mapError((failed) => unavailable("ensure", failed)),
    Effect.andThen(publish),
    Effect.ensuring(Effect.promise(() => removeTree(staged)))
  )
})

const ensure = (layout: Layout, repo: Repo): Effect.Effect<Repository, RepoUnavailable> =>
  Effect.flatMap(find(layout, repo), (found) =>
    Option.isSome(found)
      ? Effect.succeed(found.value)
      : Effect.andThen(
          create(layout, pathOf(layout, repo)),
          Effect.suspend(() => ensure(layout, repo))
        )
  )

const remove = (layout: Layout, repo: Repo) =>
  attempt("remove", async () => {
    const trashed = newPath(layout.trash)
    const isMoved = await rename(pathOf(layout, repo), trashed).then(
      () => true,
      (cause) => {
        if (codeOf(cause) !== "ENOENT") throw cause
        return false
      }
    )
    // The next start empties the trash.
    if (isMoved) await removeTree(trashed).catch(() => undefined)
  })

const defaultHead = (path: string) => Bundles.resolveBranch(path, null)

const tree = Effect.fnUntraced(function* (path: string, known: string | null, limits: TreeLimits) {
  const head = yield* defaultHead(path)
  const revision = Option.match(head, { onNone: () => "empty", onSome: ({ commit }) => commit as string })
  if (revision === known) return Option.none()
  if (Option.isNone(head)) return Option.some(emptyTree(revision))
  return Option.some(yield* CommitFiles.treeOf(path, revision, true, limits))
})

const readFile = Effect.fnUntraced(function* (path: string, file: RepoPath) {
  const head = yield* defaultHead(path)
  return Option.isNone(head)
    ? yield* CommitFiles.notFound(file)
    : yield* CommitFiles.readFile(path, head.value.commit, file)
})

/** Creates the directories, and removes what killed processes left in them. */
const openLayout = Effect.fnUntraced(function* (root: string) {
  const layout: Layout = { root, staging: join(root, ".making"), trash: join(root, ".trash") }
  yield* attempt("open", async () => {
    for (const directory of Object.values(layout)) await mkdir(directory, { recursive: true, mode: 0o700 })
  })
  const now = yield* Clock.currentTimeMillis
  yield* attempt("open", async () => {
    for (const name of await readdir(layout.staging)) await removeOld(join(layout.staging, name), now - abandonedAfter)
  })
  yield* Effect.forkDetach(
    Effect.ignore(
      attempt("open", async () => {
        for (const name of await readdir(layout.trash)) {
          await removeTree(join(layout.trash, name)).catch(() => undefined)
        }
      })
    )
  )
  return layout
})

const make = Effect.fnUntraced(function* (root: string, owner: RepoOwner, publicUrl: string, limits: TreeLimits) {
  const scope = yield* Effect.scope
  const layout = yield* openLayout(root)

  /** Lets git pack the repository in the background, if git finds that worthwhile. */
  const collectGarbage = (path: string) =>
    Effect.forkIn(
      Effect.ignore(
        Git.text(["gc", "--auto", "--quiet"], { repository: path, settings: gcSettings, timeout: gcTimeout })
      ),
      scope
    )

  return RepoHost.of({
    supports: {
      name: "local",
      url: "local://repositories",
      formerUrl: pathToFileURL(root).href.replace(/\/$/, ""),
      owner,
      publicUrl
    },
    ensure: (repo) => ensure(layout, repo),
    find: (repo) => find(layout, repo),
    remove: (repo) => remove(layout, repo),
    tree: (repo, known) => withRepository(layout, "tree", repo, (path) => tree(path, known, limits)),
    readFile: (repo, file) => withRepository(layout, "readFile", repo, (path) => readFile(path, file)),
    isPublic: (repo) => AnonymousFetch.isPublic(publicUrl, repo),
    publicTree: (repo, known) => AnonymousFetch.tree(publicUrl, repo, known, limits),
    readPublicFile: (repo, path) => AnonymousFetch.readFile(publicUrl, repo, path),
    fetch: (repo, branch, have, readAs) =>
      readAs === "anonymous"
        ? AnonymousFetch.fetchBundle(publicUrl, repo, branch, have)
        : withRepository(layout, "fetch", repo, (path) =>
            Effect.mapError(Bundles.createBundle(path, branch, have), (failed) => {
              const rejection = Bundles.rejectionOf(failed)
              return rejection === undefined ? failed : new RepoRejected({ repo, ...rejection, cause: failed })
            })
          ),
    push: <E>(repo: Repo, branch: BranchName, bundle: Stream.Stream<Uint8Array, E>) =>
      withRepository(layout, "push", repo, (path) =>
        Effect.scoped(Bundles.push(path, branch, bundle)).pipe(
          Effect.tap(collectGarbage(path)),
          Effect.mapError((error) => {
            if (error instanceof Bundles.BundleUnreadable) return new BundleRefused({ cause: error })
            return error instanceof Bundles.NonFastForward ? new PushRejected({ repo, branch }) : error
          })
        )
      )
  })
})

/** Repositories below a directory. Fails if git is missing or the directory can't be used. */
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

/** Takes the base URL of public repositories from GITHUB_URL. */
export const layerConfig = (options: Pick<LocalReposOptions, "directory">) =>
  Layer.unwrap(
    Settings.url("GITHUB_URL", Settings.defaultGitHubUrl).pipe(
      Effect.mapError((message) => new LocalReposUnavailable({ message })),
      Effect.map((publicUrl) => layer({ ...options, publicUrl }))
    )
  )
