/** Transfers commits as bundles: a sandbox gets them as one file, and needs neither network nor credential. */
import type { Fetched, RejectedFor } from "@castellan/domain/repo/RepoHost.ts"
import { BranchName, CommitId, firstBranch } from "@castellan/domain/repo/Repo.ts"
import { Clock, Duration, Effect, Option, Result, Schema, type Scope, Stream } from "effect"
import { readdir, rm, stat, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import * as Fsck from "./Fsck.ts"
import * as Git from "./Git.ts"

/** The bundle is damaged, does not contain the branch, or is not a bundle. */
export class BundleUnreadable extends Schema.TaggedError<BundleUnreadable>()("BundleUnreadable", {
  stderr: Schema.String
}) {}

/** The branch has commits that the pushed commits do not build on. */
export class NonFastForward extends Schema.TaggedError<NonFastForward>()("NonFastForward", {}) {}

/** A repository on a server, with the authorization to use it. */
export interface Remote {
  readonly url: string
  readonly authorization?: Git.GitOptions["authorization"]
}

/** How long one step may take that reads or writes all objects of a push or a fetch. */
const transferTimeout = Duration.minutes(10)

const refOf = (branch: string) => `refs/heads/${branch}`

const initBare = (repository: string) =>
  Effect.as(Git.text(["init", "--bare", "--quiet", "--template=", repository]), repository)

const newRepository = Effect.flatMap(Git.workspace, (directory) => initBare(join(directory, "repository.git")))

/** Lines with the commit and the name of each branch of a local repository, or of those below a reference. */
const listHeads = (repository: string, from = "refs/heads/") =>
  Git.text(["for-each-ref", "--format=%(objectname) %(refname)", from], { repository })

/** The commit of exactly this reference in such lines. */
const commitIn = (lines: string, ref: string): Option.Option<CommitId> =>
  Option.map(
    Option.fromUndefinedOr(lines.split("\n").find((line) => line.slice(line.search(/[ \t]/) + 1) === ref)),
    (line) => CommitId.make(line.slice(0, line.search(/[ \t]/)))
  )

/** A branch that has a commit. `ref` is the reference to fetch it by. */
export interface BranchHead {
  readonly branch: BranchName
  readonly commit: CommitId
  readonly ref: string
}

const isBranch = Schema.is(BranchName)

/** The branches in such lines, sorted by name. */
const branchesIn = (lines: string): ReadonlyArray<BranchHead> =>
  lines
    .split("\n")
    .flatMap((line) => {
      const [commit = "", ref = ""] = line.split(/[ \t]/)
      const branch = ref.startsWith(refOf("")) ? ref.slice(refOf("").length) : undefined
      return isBranch(branch) ? [{ branch, commit: CommitId.make(commit), ref }] : []
    })
    .sort((one, other) => (one.branch < other.branch ? -1 : 1))

/** Names that a missing default branch is likely to have, in order of preference. */
const usualDefaultBranches: ReadonlyArray<string> = [firstBranch, "master"]

/**
 * The default branch of a repository whose HEAD names no branch with a commit: `main`, `master` or the first by name, among
 * the branches at the commit of a detached HEAD if there are any. A repository without branches may have a detached HEAD.
 */
export const fallbackBranch = (branches: ReadonlyArray<BranchHead>, detached?: CommitId): Option.Option<BranchHead> => {
  const atHead = branches.filter(({ commit }) => commit === detached)
  const candidates = atHead.length > 0 ? atHead : branches
  const usual = usualDefaultBranches
    .map((name) => candidates.find(({ branch }) => branch === name))
    .find((one) => one !== undefined)
  const chosen = usual ?? candidates[0]
  return chosen === undefined && detached !== undefined
    ? Option.some({ branch: firstBranch, commit: detached, ref: "HEAD" })
    : Option.fromUndefinedOr(chosen)
}

/** The branch that the HEAD of a local repository names, whether it exists or not; none if HEAD is detached. */
const headBranch = (repository: string) =>
  Git.text(["symbolic-ref", "--quiet", "HEAD"], { repository }).pipe(
    Effect.map((ref) => Option.some(BranchName.make(ref.slice(refOf("").length)))),
    Effect.catchIf(
      ({ code }) => code === 1,
      () => Effect.succeed(Option.none<BranchName>())
    )
  )

/** The head of a branch of a local repository, or of its default branch; none if that has no commit. */
export const resolveBranch = Effect.fnUntraced(function* (repository: string, named: BranchName | null) {
  const wanted = named === null ? yield* headBranch(repository) : Option.some(named)
  if (Option.isSome(wanted)) {
    const ref = refOf(wanted.value)
    const commit = commitIn(yield* listHeads(repository, ref), ref)
    if (Option.isSome(commit)) return Option.some<BranchHead>({ branch: wanted.value, commit: commit.value, ref })
    if (named !== null) return Option.none<BranchHead>()
  }
  const detached = Option.isSome(wanted)
    ? ""
    : yield* Git.text(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], { repository })
  const branches = branchesIn(yield* listHeads(repository))
  return detached === "" ? fallbackBranch(branches) : fallbackBranch(branches, CommitId.make(detached))
})

/** The default branch of a local repository, even if it has no commit yet. */
export const defaultBranchOf = Effect.fnUntraced(function* (repository: string) {
  const head = yield* resolveBranch(repository, null)
  if (Option.isSome(head)) return head.value.branch
  return Option.getOrElse(yield* headBranch(repository), () => firstBranch)
})

/** Bundles a branch of a local repository, without the history of the commits in `have`. */
export const createBundle = Effect.fnUntraced(function* (
  repository: string,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId>
): Effect.fn.Return<Option.Option<Fetched>, Git.GitFailed, Scope.Scope> {
  const head = yield* resolveBranch(repository, branch)
  if (Option.isNone(head)) return Option.none()
  const { branch: name, commit, ref } = head.value
  // A bundle needs a branch, so the fetch creates one from a detached HEAD.
  if (ref !== refOf(name)) return yield* fetchBundle({ url: pathToFileURL(repository).href }, branch, have)
  const args = ["rev-list", "--no-walk", "--ignore-missing", ref, ...have, "--"]
  const existing = new Set((yield* Git.text(args, { repository })).split("\n"))
  const known = have.filter((commit) => existing.has(commit)).map((commit) => `^${commit}`)
  const newCommit = yield* Git.text(["rev-list", "--max-count=1", ref, ...known, "--"], { repository })
  if (newCommit === "") return Option.some({ branch: name, commit, bundle: Option.none() })
  const file = join(yield* Git.workspace, "bundle")
  yield* Git.text(["bundle", "create", "--quiet", file, ref, ...known], { repository, timeout: transferTimeout })
  return Option.some({ branch: name, commit, bundle: Option.some(Git.readFile(file)) })
})

/** Fetches references of a remote into a local repository. */
const fetchRefs = (remote: Remote, into: string, refs: string, limits?: Git.GitLimits, timeout = transferTimeout) =>
  Git.text(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", remote.url, refs], {
    repository: into,
    authorization: remote.authorization,
    limits,
    timeout
  })

/** The head of a branch of a remote, or of its default branch; none if that has no commit. */
const remoteBranch = Effect.fnUntraced(function* ({ authorization, url }: Remote, branch: BranchName | null) {
  const listRefs = (...refs: ReadonlyArray<string>) =>
    Git.text(["ls-remote", "--symref", "--", url, ...refs], { authorization })
  const wanted = branch === null ? "HEAD" : refOf(branch)
  const lines = yield* listRefs(wanted)
  const name = branch ?? /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(lines)?.[1]
  const commit = commitIn(lines, wanted)
  if (Option.isSome(commit) && isBranch(name)) {
    return Option.some<BranchHead>({ branch: name, commit: commit.value, ref: refOf(name) })
  }
  if (branch !== null) return Option.none<BranchHead>()
  const branches = branchesIn(yield* listRefs("refs/heads/*"))
  return Option.isSome(commit) ? fallbackBranch(branches, commit.value) : fallbackBranch(branches)
})

/** The head of a remote's default branch; none if that has no commit. */
export const remoteHead = (remote: Remote): Effect.Effect<Option.Option<BranchHead>, Git.GitFailed> =>
  remoteBranch(remote, null)

/** Limits of git when it fetches the trees of one commit, or one file, to inspect it. */
export const inspectionLimits: Git.GitLimits = { fileSize: 256 * 1024 ** 2, memory: 4 * 1024 ** 3 }

/** How long the fetch of one commit's trees may take. */
const inspectionTimeout = Duration.minutes(2)

/**
 * Fetches one commit of a remote with its trees into a temporary repository. Git fetches a file when it is read. Objects are
 * not checked, because nothing is checked out.
 */
export const shallowFetch = Effect.fnUntraced(
  function* (remote: Remote, { ref }: BranchHead) {
    const repository = yield* newRepository
    yield* Git.text(["remote", "add", "origin", remote.url], { repository })
    yield* Git.text(["fetch", "--quiet", "--no-tags", "--depth=1", "--filter=blob:none", "origin", ref], {
      repository,
      authorization: remote.authorization,
      limits: inspectionLimits,
      settings: [["transfer.fsckObjects", "false"]]
    })
    return repository
  },
  Effect.timeoutOrElse({
    duration: inspectionTimeout,
    orElse: () =>
      Effect.fail(
        new Git.GitFailed({
          operation: "fetch",
          code: 137,
          stderr: `not finished after ${Duration.format(inspectionTimeout)}`
        })
      )
  })
)

/** Limits of git when it fetches a branch. */
const fetchLimits: Git.GitLimits = Git.defaultLimits

/** How long a fetch may take. */
const fetchTimeout = Duration.minutes(30)

/** Git's messages when a limit stopped it. */
const limitExceeded = /^fatal: .*(?:File too large|Out of memory|out of memory)/m

/** Why git will always reject a repository; undefined if it failed for another reason. */
export const rejectionOf = ({
  stderr
}: Git.GitFailed): { readonly why: RejectedFor; readonly fault: string | null } | undefined => {
  const fault = Fsck.faultIn(stderr)
  if (fault !== undefined) return { why: "unsafe_object", fault }
  return limitExceeded.test(stderr) ? { why: "too_large", fault: null } : undefined
}

/** Fetches a branch of a remote and bundles it, as `createBundle` does. */
export const fetchBundle: (
  remote: Remote,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId>,
  limits?: Git.GitLimits
) => Effect.Effect<Option.Option<Fetched>, Git.GitFailed, Scope.Scope> = Effect.fnUntraced(
  function* (remote, branch, have, limits = fetchLimits) {
    const head = yield* remoteBranch(remote, branch)
    if (Option.isNone(head)) return Option.none<Fetched>()
    const name = head.value.branch
    const repository = yield* newRepository
    yield* fetchRefs(remote, repository, `+${head.value.ref}:${refOf(name)}`, limits, fetchTimeout)
    // Fetch the caller's commits, which other branches may contain. A server that refuses only makes the bundle larger.
    for (const commit of have) {
      if (!(yield* hasCommits(repository, [commit]))) {
        yield* Effect.ignore(fetchRefs(remote, repository, `${commit}:refs/have/${commit}`, limits, fetchTimeout))
      }
    }
    return yield* createBundle(repository, name, have)
  },
  Effect.timeoutOrElse({
    duration: fetchTimeout,
    orElse: () =>
      Effect.fail(
        new Git.GitFailed({
          operation: "fetch",
          code: 137,
          stderr: `not finished after ${Duration.format(fetchTimeout)}`
        })
      )
  })
)

/** Limits of git when it reads a pushed bundle, which is untrusted. */
const pushLimits: Git.GitLimits = { ...Git.defaultLimits, memory: 2 * 1024 ** 3 }

const unreadable = ({ stderr }: Git.GitFailed) => new BundleUnreadable({ stderr })

/** The reference of pushed commits until they are checked. */
const incoming = "refs/heads/incoming"

/** Unpacks a bundle into a temporary repository that borrows the objects of the target repository. */
const unbundle = Effect.fnUntraced(function* (repository: string, branch: BranchName, bundle: string) {
  const staging = yield* newRepository
  yield* Effect.promise(() => writeFile(join(staging, "objects/info/alternates"), `${join(repository, "objects")}\n`))
  // A bundle may build on commits of branches, but not on unreferenced objects.
  const branches = yield* listHeads(repository)
  yield* Effect.promise(() => writeFile(join(staging, "packed-refs"), branches === "" ? "" : `${branches}\n`))
  // `fetch` would take a file that is not a bundle for a pointer to a repository.
  const command = Git.text(["bundle", "unbundle", bundle], {
    repository: staging,
    limits: pushLimits,
    timeout: transferTimeout
  })
  const listed = yield* Effect.mapError(command, unreadable)
  const commit = commitIn(listed, refOf(branch))
  if (Option.isNone(commit)) return yield* new BundleUnreadable({ stderr: "the bundle does not contain the branch" })
  yield* Effect.mapError(Git.text(["update-ref", incoming, commit.value], { repository: staging }), unreadable)
  return { staging, commit: commit.value }
})

/**
 * Bytes of the largest commit, tree or tag that may be pushed, because git reads each of them into memory. A directory of a
 * million files is smaller.
 */
const maxMetadataSize = 64 * 1024 * 1024

/** Rejects a bundle whose commits, trees or tags are too large when decompressed. */
const checkMetadataSizes = Effect.fnUntraced(function* (staging: string) {
  const repository = yield* newRepository
  // Only the objects of the bundle, without the borrowed ones.
  yield* Effect.promise(async () => {
    await rm(join(repository, "objects/pack"), { recursive: true })
    await symlink(join(staging, "objects/pack"), join(repository, "objects/pack"))
  })
  const args = ["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objecttype) %(objectsize)"]
  let rest = ""
  let isTooLarge = false
  yield* Git.run(args, { repository, timeout: transferTimeout }, (chunk) => {
    const lines = (rest + chunk.toString("latin1")).split("\n")
    rest = lines.pop()!
    isTooLarge ||= lines.some((line) => {
      const [type, size] = line.split(" ")
      return type !== "blob" && Number(size) > maxMetadataSize
    })
    return !isTooLarge
  })
  if (isTooLarge) {
    return yield* new BundleUnreadable({ stderr: `a commit, tree or tag has more than ${maxMetadataSize} bytes` })
  }
})

const strictOption = `--strict=${Fsck.harmlessFaults.map((fault) => `${fault}=ignore`).join(",")}`

/** Checks that every object of a bundle is valid, and that the objects it refers to exist. */
const checkObjects = Effect.fnUntraced(function* (staging: string) {
  const packs = join(staging, "objects/pack")
  for (const name of yield* Effect.promise(() => readdir(packs))) {
    if (!name.endsWith(".pack")) continue
    const args = ["index-pack", strictOption, "-o", join(staging, "checked.idx"), join(packs, name)]
    yield* Effect.mapError(
      Git.text(args, { repository: staging, limits: pushLimits, timeout: transferTimeout }),
      unreadable
    )
  }
})

/** Fast-forwards a branch of a local repository to the commit that the bundle has for it. */
export const push = Effect.fnUntraced(function* <E>(
  repository: string,
  branch: BranchName,
  bundle: Stream.Stream<Uint8Array, E>
): Effect.fn.Return<void, BundleUnreadable | E | Git.GitFailed | NonFastForward, Scope.Scope> {
  const file = join(yield* Git.workspace, "bundle")
  yield* Git.writeFile(file, bundle)
  yield* applyBundle(repository, branch, file)
})

const applyBundle = Effect.fnUntraced(function* (
  repository: string,
  branch: BranchName,
  bundle: string
): Effect.fn.Return<void, BundleUnreadable | Git.GitFailed | NonFastForward, Scope.Scope> {
  const { staging, commit } = yield* unbundle(repository, branch, bundle)
  // Checks in the staging repository leave nothing behind in the target.
  yield* checkMetadataSizes(staging)
  yield* checkObjects(staging)
  const before = yield* resolveBranch(repository, branch)
  if (Option.isSome(before) && !(yield* contains(staging, commit, before.value.commit)))
    return yield* new NonFastForward()
  yield* fetchRefs({ url: staging }, repository, incoming)
  yield* fastForward(repository, branch, commit)
})

/**
 * Milliseconds after which a lock file belongs to a process that was killed: less than git waits for a lock, and far more
 * than it takes to update a branch.
 */
const staleLockAge = 9_000

/** Removes lock files of processes that were killed while they updated the branch. Returns whether there were any. */
const removeStaleLocks = (repository: string, branch: BranchName): Effect.Effect<boolean> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.promise(async () => {
      let any = false
      for (const name of [`${refOf(branch)}.lock`, "packed-refs.lock", "HEAD.lock"]) {
        const lock = join(repository, name)
        const known = await stat(lock).catch(() => undefined)
        if (known === undefined || known.mtimeMs > now - staleLockAge) continue
        await rm(lock, { force: true })
        any = true
      }
      return any
    })
  )

/** Updates the branch by compare-and-set, and starts over if another process moved it. */
const fastForward = Effect.fnUntraced(function* (
  repository: string,
  branch: BranchName,
  to: CommitId
): Effect.fn.Return<void, Git.GitFailed | NonFastForward> {
  const before = Option.map(yield* resolveBranch(repository, branch), ({ commit }) => commit)
  if (Option.isSome(before) && !(yield* contains(repository, to, before.value))) return yield* new NonFastForward()
  yield* removeStaleLocks(repository, branch)
  const expected = Option.getOrElse(before, () => "0".repeat(to.length))
  yield* Git.text(["update-ref", refOf(branch), to, expected], { repository }).pipe(
    Effect.catch((failed) =>
      Effect.gen(function* () {
        const after = Option.map(yield* resolveBranch(repository, branch), ({ commit }) => commit)
        const isSame = Option.getOrUndefined(after) === Option.getOrUndefined(before)
        return isSame && !(yield* removeStaleLocks(repository, branch))
          ? yield* failed
          : yield* fastForward(repository, branch, to)
      })
    )
  )
})

const contains = (repository: string, commit: string, older: string) =>
  Git.succeeds(["merge-base", "--is-ancestor", older, commit], { repository })

/** Bytes of the longest header of a bundle that is read. */
const maxHeaderSize = 1024 * 1024

/** The commits that a bundle builds on, from its header. */
const prerequisites = Effect.fnUntraced(function* (bundle: string) {
  const chunks = yield* Git.readFile(bundle).pipe(Stream.take(maxHeaderSize / Git.chunkSize), Stream.runCollect)
  const [header = ""] = Buffer.concat(chunks).toString("latin1").split("\n\n", 1)
  return Array.from(header.matchAll(/^-([0-9a-f]{40,64})\b/gm), (match) => match[1]!)
})

const hasCommits = (repository: string, commits: ReadonlyArray<string>) =>
  commits.length === 0
    ? Effect.succeed(true)
    : Effect.map(
        Effect.result(Git.text(["rev-list", "--no-walk", "--quiet", ...commits, "--"], { repository })),
        Result.isSuccess
      )

/** Fast-forwards a branch of a remote to the commit that the bundle has for it. */
export const pushToRemote = Effect.fnUntraced(function* <E>(
  remote: Remote,
  branch: BranchName,
  bundle: Stream.Stream<Uint8Array, E>
): Effect.fn.Return<void, BundleUnreadable | E | Git.GitFailed | NonFastForward, Scope.Scope> {
  const file = join(yield* Git.workspace, "bundle")
  yield* Git.writeFile(file, bundle)
  const repository = yield* newRepository
  const ref = refOf(branch)
  if (Option.isSome(yield* remoteBranch(remote, branch))) yield* fetchRefs(remote, repository, `+${ref}:${ref}`)
  // A bundle can be read only where its prerequisites exist. Mostly the branch contains them.
  if (!(yield* hasCommits(repository, yield* prerequisites(file))))
    yield* fetchRefs(remote, repository, "+refs/heads/*:refs/heads/*")
  yield* applyBundle(repository, branch, file)
  yield* Git.text(["push", "--quiet", "--", remote.url, `${ref}:${ref}`], {
    repository,
    authorization: remote.authorization,
    timeout: transferTimeout
  }).pipe(
    Effect.catch((failed) =>
      Effect.gen(function* () {
        // If another process pushed first, the remote has commits that this repository lacks.
        const theirs = "refs/theirs"
        if (Option.isNone(yield* remoteBranch(remote, branch))) return yield* failed
        yield* fetchRefs(remote, repository, `+${ref}:${theirs}`)
        if (!(yield* contains(repository, ref, theirs))) return yield* new NonFastForward()
        if (!(yield* contains(repository, theirs, ref))) return yield* failed
      })
    )
  )
})
