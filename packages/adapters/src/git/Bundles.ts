/** Commits as bundles: one file that any git reads, so that they cross into a sandbox without a network or a credential. */
import type { Fetched, RejectedFor } from "@castellan/domain/repo/RepoHost.ts"
import { BranchName, CommitId, firstBranch } from "@castellan/domain/repo/Repo.ts"
import { Clock, Duration, Effect, Option, Result, Schema, type Scope, Stream } from "effect"
import { readdir, rm, stat, symlink, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import * as Fsck from "./Fsck.ts"
import * as Git from "./Git.ts"

/** The bundle is damaged, is none, or has not the branch. */
export class BundleUnreadable extends Schema.TaggedError<BundleUnreadable>()("BundleUnreadable", {
  stderr: Schema.String
}) {}

/** The branch has commits that the pushed one does not contain. */
export class NonFastForward extends Schema.TaggedError<NonFastForward>()("NotForward", {}) {}

/** Where a repository of another place is, and what is said to be let in. */
export interface Remote {
  readonly url: string
  readonly authorization?: Git.GitOptions["authorization"]
}

/** How long one step may take that reads or writes all that a push or a fetch brings. */
const carriedWithin = Duration.minutes(10)

const refOf = (branch: string) => `refs/heads/${branch}`

const made = (repository: string) =>
  Effect.as(Git.text(["init", "--bare", "--quiet", "--template=", repository]), repository)

const newRepository = Effect.flatMap(Git.workspace, (directory) => made(join(directory, "repository.git")))

/** Where the branches of a repository on this disk stand, as lines of git's own: all, or those from one on. */
const heads = (repository: string, from = "refs/heads/") =>
  Git.text(["for-each-ref", "--format=%(objectname) %(refname)", from], { repository })

/** The commit that one of such lines gives for exactly this reference. */
const commitIn = (lines: string, ref: string): Option.Option<CommitId> =>
  Option.map(
    Option.fromUndefinedOr(lines.split("\n").find((line) => line.slice(line.search(/[ \t]/) + 1) === ref)),
    (line) => CommitId.make(line.slice(0, line.search(/[ \t]/)))
  )

/** A branch that has a commit. `ref` is the reference that the commit is fetched by. */
export interface BranchHead {
  readonly branch: BranchName
  readonly commit: CommitId
  readonly ref: string
}

const isBranch = Schema.is(BranchName)

/** The branches in lines of git's own, by name. */
const branchesIn = (lines: string): ReadonlyArray<BranchHead> =>
  lines
    .split("\n")
    .flatMap((line) => {
      const [commit = "", ref = ""] = line.split(/[ \t]/)
      const branch = ref.startsWith(refOf("")) ? ref.slice(refOf("").length) : undefined
      return isBranch(branch) ? [{ branch, commit: CommitId.make(commit), ref }] : []
    })
    .sort((one, other) => (one.branch < other.branch ? -1 : 1))

/** Branches that are taken for the default one, the first of them first. */
const usual: ReadonlyArray<string> = [firstBranch, "master"]

/**
 * The default branch of a repository whose HEAD names no branch that has a commit: the branch that stands where a detached
 * HEAD does, or else `main`, `master`, or the first by name. A repository without branches still has its detached HEAD.
 */
export const fallbackBranch = (branches: ReadonlyArray<BranchHead>, detached?: CommitId): Option.Option<BranchHead> => {
  const there = branches.filter(({ commit }) => commit === detached)
  const among = there.length > 0 ? there : branches
  const found = usual.map((name) => among.find(({ branch }) => branch === name)).find((one) => one !== undefined)
  const chosen = found ?? among[0]
  return chosen === undefined && detached !== undefined
    ? Option.some({ branch: firstBranch, commit: detached, ref: "HEAD" })
    : Option.fromUndefinedOr(chosen)
}

/** The branch that HEAD of a repository on this disk names, whether it exists or not; none where HEAD is detached. */
const namedByHead = (repository: string) =>
  Git.text(["symbolic-ref", "--quiet", "HEAD"], { repository }).pipe(
    Effect.map((ref) => Option.some(BranchName.make(ref.slice(refOf("").length)))),
    Effect.catchIf(
      ({ code }) => code === 1,
      () => Effect.succeed(Option.none<BranchName>())
    )
  )

/** A branch of a repository on this disk: the default one if none is named, none where it has no commit. */
export const resolveBranch = Effect.fnUntraced(function* (repository: string, named: BranchName | null) {
  const byHead = named === null ? yield* namedByHead(repository) : Option.some(named)
  if (Option.isSome(byHead)) {
    const ref = refOf(byHead.value)
    const commit = commitIn(yield* heads(repository, ref), ref)
    if (Option.isSome(commit)) return Option.some<BranchHead>({ branch: byHead.value, commit: commit.value, ref })
    if (named !== null) return Option.none<BranchHead>()
  }
  const detached = Option.isSome(byHead)
    ? ""
    : yield* Git.text(["rev-parse", "--verify", "--quiet", "HEAD^{commit}"], { repository })
  const branches = branchesIn(yield* heads(repository))
  return detached === "" ? fallbackBranch(branches) : fallbackBranch(branches, CommitId.make(detached))
})

/** The default branch of a repository on this disk, also where it has no commit yet. */
export const defaultBranchOf = Effect.fnUntraced(function* (repository: string) {
  const head = yield* resolveBranch(repository, null)
  if (Option.isSome(head)) return head.value.branch
  return Option.getOrElse(yield* namedByHead(repository), () => firstBranch)
})

/** A branch of a repository on this disk as a bundle, without what `have` brings along. */
export const createBundle = Effect.fnUntraced(function* (
  repository: string,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId>
): Effect.fn.Return<Option.Option<Fetched>, Git.GitFailed, Scope.Scope> {
  const head = yield* resolveBranch(repository, branch)
  if (Option.isNone(head)) return Option.none()
  const { branch: name, commit, ref } = head.value
  // A bundle names a branch, and there is none to name.
  if (ref !== refOf(name)) return yield* fetchBundle({ url: pathToFileURL(repository).href }, branch, have)
  const asked = ["rev-list", "--no-walk", "--ignore-missing", ref, ...have, "--"]
  const there = new Set((yield* Git.text(asked, { repository })).split("\n"))
  const known = have.filter((commit) => there.has(commit)).map((commit) => `^${commit}`)
  const news = yield* Git.text(["rev-list", "--max-count=1", ref, ...known, "--"], { repository })
  if (news === "") return Option.some({ branch: name, commit, bundle: Option.none() })
  const file = join(yield* Git.workspace, "bundle")
  yield* Git.text(["bundle", "create", "--quiet", file, ref, ...known], { repository, timeout: carriedWithin })
  return Option.some({ branch: name, commit, bundle: Option.some(Git.readFile(file)) })
})

/** Copies branches of a remote to references here. */
const copied = (remote: Remote, into: string, refs: string, limits?: Git.GitLimits, within = carriedWithin) =>
  Git.text(["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--", remote.url, refs], {
    repository: into,
    authorization: remote.authorization,
    limits,
    timeout: within
  })

/** The branch that a remote has under that name, or as its default; none where it has no commit. */
const found = Effect.fnUntraced(function* ({ authorization, url }: Remote, branch: BranchName | null) {
  const listed = (...refs: ReadonlyArray<string>) =>
    Git.text(["ls-remote", "--symref", "--", url, ...refs], { authorization })
  const asked = branch === null ? "HEAD" : refOf(branch)
  const lines = yield* listed(asked)
  const name = branch ?? /^ref: refs\/heads\/(\S+)\tHEAD$/m.exec(lines)?.[1]
  const commit = commitIn(lines, asked)
  if (Option.isSome(commit) && isBranch(name)) {
    return Option.some<BranchHead>({ branch: name, commit: commit.value, ref: refOf(name) })
  }
  if (branch !== null) return Option.none<BranchHead>()
  const branches = branchesIn(yield* listed("refs/heads/*"))
  return Option.isSome(commit) ? fallbackBranch(branches, commit.value) : fallbackBranch(branches)
})

/** The branch that a remote shows first; none where it has no commit. */
export const remoteHead = (remote: Remote): Effect.Effect<Option.Option<BranchHead>, Git.GitFailed> =>
  found(remote, null)

/** The most that is fetched to look at one commit: bytes of its trees, or of one file, and memory. */
export const inspectionLimits: Git.GitLimits = { fileSize: 256 * 1024 ** 2, memory: 4 * 1024 ** 3 }

/** How long a look may take. */
const lookedWithin = Duration.minutes(2)

/**
 * A repository with one commit of a remote and its trees. Git fetches files when it is asked for them. Nothing is checked
 * out of it, so that its objects are not checked either.
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
    duration: lookedWithin,
    orElse: () =>
      Effect.fail(
        new Git.GitFailed({ operation: "fetch", code: 137, stderr: `no end in ${Duration.format(lookedWithin)}` })
      )
  })
)

/** The most that is fetched of a repository: bytes of its commits, and of memory that git may use for them. */
const most: Git.GitLimits = Git.defaultLimits

/** How long a fetch may take. */
const fetchedWithin = Duration.minutes(30)

/** What git says where the limits stopped it. */
const beyondLimits = /^fatal: .*(?:File too large|Out of memory|out of memory)/m

/** Why git refuses a repository for good; undefined where it failed for another reason. */
export const rejectionOf = ({
  stderr
}: Git.GitFailed): { readonly why: RejectedFor; readonly fault: string | null } | undefined => {
  const fault = Fsck.faultIn(stderr)
  if (fault !== undefined) return { why: "unsafe_object", fault }
  return beyondLimits.test(stderr) ? { why: "too_large", fault: null } : undefined
}

/** A branch of a remote as a bundle, as `fetched` gives it. */
export const fetchBundle: (
  remote: Remote,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId>,
  limits?: Git.GitLimits
) => Effect.Effect<Option.Option<Fetched>, Git.GitFailed, Scope.Scope> = Effect.fnUntraced(
  function* (remote, branch, have, limits = most) {
    const head = yield* found(remote, branch)
    if (Option.isNone(head)) return Option.none<Fetched>()
    const name = head.value.branch
    const repository = yield* newRepository
    yield* copied(remote, repository, `+${head.value.ref}:${refOf(name)}`, limits, fetchedWithin)
    // What another branch has is not in this one; who does not give it makes the bundle larger, and no worse.
    for (const commit of have) {
      if (!(yield* has(repository, [commit]))) {
        yield* Effect.ignore(copied(remote, repository, `${commit}:refs/have/${commit}`, limits, fetchedWithin))
      }
    }
    return yield* createBundle(repository, name, have)
  },
  Effect.timeoutOrElse({
    duration: fetchedWithin,
    orElse: () =>
      Effect.fail(
        new Git.GitFailed({ operation: "fetch", code: 137, stderr: `no end in ${Duration.format(fetchedWithin)}` })
      )
  })
)

/** What git may use for a bundle of which nothing is known. */
const takenLimits: Git.GitLimits = { ...Git.defaultLimits, memory: 2 * 1024 ** 3 }

const unreadable = ({ stderr }: Git.GitFailed) => new BundleUnreadable({ stderr })

/** Where what arrives stands until it was looked at. */
const incoming = "refs/heads/incoming"

/** The commits of a bundle in a repository beside the one that they are to come into. */
const unbundled = Effect.fnUntraced(function* (repository: string, branch: BranchName, bundle: string) {
  const aside = yield* newRepository
  yield* Effect.promise(() => writeFile(join(aside, "objects/info/alternates"), `${join(repository, "objects")}\n`))
  // A bundle may build on what a branch has, not on what merely lies about.
  const known = yield* heads(repository)
  yield* Effect.promise(() => writeFile(join(aside, "packed-refs"), known === "" ? "" : `${known}\n`))
  // Not `fetch`: it takes a file that is no bundle for a pointer to a repository.
  const unbundle = Git.text(["bundle", "unbundle", bundle], {
    repository: aside,
    limits: takenLimits,
    timeout: carriedWithin
  })
  const listed = yield* Effect.mapError(unbundle, unreadable)
  const commit = commitIn(listed, refOf(branch))
  if (Option.isNone(commit)) return yield* new BundleUnreadable({ stderr: "the branch is not in it" })
  yield* Effect.mapError(Git.text(["update-ref", incoming, commit.value], { repository: aside }), unreadable)
  return { aside, commit: commit.value }
})

/**
 * Bytes of a commit, a tree or a tag that may be pushed. Git reads each of them as a whole, whenever it looks at what they
 * lead to. A directory of a million files is smaller.
 */
const describingAtMost = 64 * 1024 * 1024

/** Refuses a bundle whose commits, trees and tags would be expensive to read once decompressed. */
const readable = Effect.fnUntraced(function* (aside: string) {
  const repository = yield* newRepository
  // What the bundle brought, without what it builds on.
  yield* Effect.promise(async () => {
    await rm(join(repository, "objects/pack"), { recursive: true })
    await symlink(join(aside, "objects/pack"), join(repository, "objects/pack"))
  })
  const args = ["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objecttype) %(objectsize)"]
  let rest = ""
  let isTooLarge = false
  yield* Git.run(args, { repository, timeout: carriedWithin }, (chunk) => {
    const lines = (rest + chunk.toString("latin1")).split("\n")
    rest = lines.pop()!
    isTooLarge ||= lines.some((line) => {
      const [type, size] = line.split(" ")
      return type !== "blob" && Number(size) > describingAtMost
    })
    return !isTooLarge
  })
  if (isTooLarge) {
    return yield* new BundleUnreadable({ stderr: `a commit, tree or tag has more than ${describingAtMost} bytes` })
  }
})

const strictly = `--strict=${Fsck.harmlessFaults.map((fault) => `${fault}=ignore`).join(",")}`

/** Makes sure that every object a bundle brought is as git wants it, and that what it leads to is there. */
const sound = Effect.fnUntraced(function* (aside: string) {
  const packs = join(aside, "objects/pack")
  for (const name of yield* Effect.promise(() => readdir(packs))) {
    if (!name.endsWith(".pack")) continue
    const args = ["index-pack", strictly, "-o", join(aside, "checked.idx"), join(packs, name)]
    yield* Effect.mapError(
      Git.text(args, { repository: aside, limits: takenLimits, timeout: carriedWithin }),
      unreadable
    )
  }
})

/** Moves a branch of a repository on this disk forward to where the bundle has it. */
export const push = Effect.fnUntraced(function* <E>(
  repository: string,
  branch: BranchName,
  bundle: Stream.Stream<Uint8Array, E>
): Effect.fn.Return<void, BundleUnreadable | E | Git.GitFailed | NonFastForward, Scope.Scope> {
  const file = join(yield* Git.workspace, "bundle")
  yield* Git.writeFile(file, bundle)
  yield* taken(repository, branch, file)
})

const taken = Effect.fnUntraced(function* (
  repository: string,
  branch: BranchName,
  bundle: string
): Effect.fn.Return<void, BundleUnreadable | Git.GitFailed | NonFastForward, Scope.Scope> {
  const { aside, commit } = yield* unbundled(repository, branch, bundle)
  // Looked at beside the repository, so that what is refused leaves nothing in it.
  yield* readable(aside)
  yield* sound(aside)
  const before = yield* resolveBranch(repository, branch)
  if (Option.isSome(before) && !(yield* contains(aside, commit, before.value.commit)))
    return yield* new NonFastForward()
  yield* copied({ url: aside }, repository, incoming)
  yield* forward(repository, branch, commit)
})

/**
 * Milliseconds after which a lock is that of a process that was killed: less than git waits for one, and far more than it
 * takes to move a branch.
 */
const abandonedAfter = 9_000

/** Takes away the locks of processes that were killed while they moved the branch; tells whether there were any. */
const unlocked = (repository: string, branch: BranchName): Effect.Effect<boolean> =>
  Effect.flatMap(Clock.currentTimeMillis, (now) =>
    Effect.promise(async () => {
      let any = false
      for (const name of [`${refOf(branch)}.lock`, "packed-refs.lock", "HEAD.lock"]) {
        const lock = join(repository, name)
        const known = await stat(lock).catch(() => undefined)
        if (known === undefined || known.mtimeMs > now - abandonedAfter) continue
        await rm(lock, { force: true })
        any = true
      }
      return any
    })
  )

/** Compare, then set: a branch that moved in between is compared again. */
const forward = Effect.fnUntraced(function* (
  repository: string,
  branch: BranchName,
  to: CommitId
): Effect.fn.Return<void, Git.GitFailed | NonFastForward> {
  const before = Option.map(yield* resolveBranch(repository, branch), ({ commit }) => commit)
  if (Option.isSome(before) && !(yield* contains(repository, to, before.value))) return yield* new NonFastForward()
  yield* unlocked(repository, branch)
  const expected = Option.getOrElse(before, () => "0".repeat(to.length))
  yield* Git.text(["update-ref", refOf(branch), to, expected], { repository }).pipe(
    Effect.catch((failed) =>
      Effect.gen(function* () {
        const after = Option.map(yield* resolveBranch(repository, branch), ({ commit }) => commit)
        const isSame = Option.getOrUndefined(after) === Option.getOrUndefined(before)
        return isSame && !(yield* unlocked(repository, branch)) ? yield* failed : yield* forward(repository, branch, to)
      })
    )
  )
})

const contains = (repository: string, commit: string, older: string) =>
  Git.succeeds(["merge-base", "--is-ancestor", older, commit], { repository })

/** Bytes of a bundle that its header may have. */
const headerRead = 1024 * 1024

/** The commits that a bundle builds on, as its header says. */
const needs = Effect.fnUntraced(function* (bundle: string) {
  const pieces = yield* Git.readFile(bundle).pipe(Stream.take(headerRead / Git.chunkSize), Stream.runCollect)
  const [header = ""] = Buffer.concat(pieces).toString("latin1").split("\n\n", 1)
  return Array.from(header.matchAll(/^-([0-9a-f]{40,64})\b/gm), (match) => match[1]!)
})

const has = (repository: string, commits: ReadonlyArray<string>) =>
  commits.length === 0
    ? Effect.succeed(true)
    : Effect.map(
        Effect.result(Git.text(["rev-list", "--no-walk", "--quiet", ...commits, "--"], { repository })),
        Result.isSuccess
      )

/** Moves a branch of a remote forward to where the bundle has it. */
export const pushToRemote = Effect.fnUntraced(function* <E>(
  remote: Remote,
  branch: BranchName,
  bundle: Stream.Stream<Uint8Array, E>
): Effect.fn.Return<void, BundleUnreadable | E | Git.GitFailed | NonFastForward, Scope.Scope> {
  const file = join(yield* Git.workspace, "bundle")
  yield* Git.writeFile(file, bundle)
  const repository = yield* newRepository
  const ref = refOf(branch)
  if (Option.isSome(yield* found(remote, branch))) yield* copied(remote, repository, `+${ref}:${ref}`)
  // What the bundle builds on has to be there before it can be read; mostly that is in the branch.
  if (!(yield* has(repository, yield* needs(file)))) yield* copied(remote, repository, "+refs/heads/*:refs/heads/*")
  yield* taken(repository, branch, file)
  yield* Git.text(["push", "--quiet", "--", remote.url, `${ref}:${ref}`], {
    repository,
    authorization: remote.authorization,
    timeout: carriedWithin
  }).pipe(
    Effect.catch((failed) =>
      Effect.gen(function* () {
        // Was somebody else first? Then the remote has what this repository has not.
        const theirs = "refs/theirs"
        if (Option.isNone(yield* found(remote, branch))) return yield* failed
        yield* copied(remote, repository, `+${ref}:${theirs}`)
        if (!(yield* contains(repository, ref, theirs))) return yield* new NonFastForward()
        if (!(yield* contains(repository, theirs, ref))) return yield* failed
      })
    )
  )
})
