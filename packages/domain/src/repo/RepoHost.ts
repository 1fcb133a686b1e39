/** Creates, reads and pushes to repositories at a host. The service may read and write all repositories of `owner`. */
import { Context, type Effect, type Option, Schema, type Scope, type Stream } from "effect"
import { InternalCause } from "../InternalCause.ts"
import { type FileTree, RepoPath } from "./FileTree.ts"
import type { ReadAs } from "./ReadAs.ts"
import { BranchName, type CommitId, Repo, type Repository, type RepoOwner } from "./Repo.ts"

/** The repository does not exist, or may not be read. The host does not tell which. */
export class RepoNotFound extends Schema.TaggedError<RepoNotFound>()("RepoNotFound", { repo: Repo }) {}

/** The default branch has no file at the path, but nothing, a directory, a submodule, or a link to none of its files. */
export class RepoFileNotFound extends Schema.TaggedError<RepoFileNotFound>()("RepoFileNotFound", {
  path: RepoPath
}) {}

/** The file has more than `maxFileBytes`. */
export class RepoFileTooLarge extends Schema.TaggedError<RepoFileTooLarge>()("RepoFileTooLarge", {
  path: RepoPath
}) {}

/** The branch has commits that the pushed one lacks. Nothing was changed. */
export class PushRejected extends Schema.TaggedError<PushRejected>()("PushRejected", {
  repo: Repo,
  branch: BranchName
}) {}

/** The pushed content is not a git bundle, is damaged, or lacks the branch. */
export class BundleRefused extends Schema.TaggedError<BundleRefused>()("BundleRefused", { cause: InternalCause }) {}

/** The host could not be reached, or refused the request. `retryable`: a retry may succeed. */
export class RepoUnavailable extends Schema.TaggedError<RepoUnavailable>()("RepoUnavailable", {
  operation: Schema.String,
  retryable: Schema.Boolean,
  /** Milliseconds after which the host accepts a retry; null if it did not say. */
  retryAfterMs: Schema.NullOr(Schema.Int),
  cause: InternalCause
}) {}

export const RejectedFor = Schema.Literals(["unsafe_object", "too_large"])
export type RejectedFor = typeof RejectedFor.Type

/** The branch has commits that this server does not accept. A retry can't succeed while it has them. */
export class RepoRejected extends Schema.TaggedError<RepoRejected>()("RepoRejected", {
  repo: Repo,
  why: RejectedFor,
  /** Git's name for the fault of the object, such as `hasDotgit`; null if no object is at fault. */
  fault: Schema.NullOr(Schema.String),
  cause: InternalCause
}) {}

/** The name and URLs of a host. */
export interface HostSupport {
  /** `github`, `local`, `memory`. */
  readonly name: string
  /** The prefix of its repositories' URLs, without a final `/`. */
  readonly url: string
  /** The prefix in earlier versions. Such URLs are still accepted but never returned. */
  readonly formerUrl?: string
  /** The owner of the repositories that the service creates for accounts. */
  readonly owner: RepoOwner
  /** The prefix of the URLs of public repositories, such as `https://github.com`. */
  readonly publicUrl: string
}

/** A fetched branch. */
export interface Fetched {
  readonly branch: BranchName
  /** The head of the branch. */
  readonly commit: CommitId
  /** A git bundle of the branch without the commits that the caller has; none if it has all of them. */
  readonly bundle: Option.Option<Stream.Stream<Uint8Array, RepoUnavailable>>
}

/** Maximum bytes of a file that can be read. */
export const maxFileBytes = 25 * 1024 * 1024

export class RepoHost extends Context.Service<
  RepoHost,
  {
    readonly supports: HostSupport
    /**
     * Creates an empty private repository with `firstBranch` as its default branch. Idempotent: an existing repository is
     * returned unchanged.
     */
    readonly ensure: (repo: Repo) => Effect.Effect<Repository, RepoUnavailable>
    /** None if there is no such repository. */
    readonly find: (repo: Repo) => Effect.Effect<Option.Option<Repository>, RepoUnavailable>
    /** Deletes the repository with all its commits. Succeeds if there is none. */
    readonly remove: (repo: Repo) => Effect.Effect<void, RepoUnavailable>
    /**
     * The tree of the default branch; empty for a repository without commits. It has all entries, or is `truncated` to the
     * host's `TreeLimits`. The limits apply while the tree is read, so they bound time and memory, whatever the size of the
     * tree. None if the tree still has revision `known`, which is a cheap request. If the repository's default branch is
     * missing, another branch counts as the default one, here and in `readFile` and `fetch`.
     */
    readonly tree: (
      repo: Repo,
      known: string | null
    ) => Effect.Effect<Option.Option<FileTree>, RepoNotFound | RepoUnavailable>
    /**
     * The bytes of a file on the default branch, `maxFileBytes` at most. Follows a symbolic link within the tree, never out
     * of it.
     */
    readonly readFile: (
      repo: Repo,
      path: RepoPath
    ) => Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | RepoNotFound | RepoUnavailable>
    /** Whether the repository below `publicUrl` can be read without credentials. Sends none. */
    readonly isPublic: (repo: Repo) => Effect.Effect<boolean, RepoUnavailable>
    /** Like `tree`, for the repository below `publicUrl`, without credentials. Files may lack their sizes. */
    readonly publicTree: (
      repo: Repo,
      known: string | null
    ) => Effect.Effect<Option.Option<FileTree>, RepoNotFound | RepoUnavailable>
    /** Like `readFile`, for the repository below `publicUrl`, without credentials. */
    readonly readPublicFile: (
      repo: Repo,
      path: RepoPath
    ) => Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | RepoNotFound | RepoUnavailable>
    /**
     * A branch, or the default branch if it is null, with all its commits except those that the caller has: `have` and
     * their ancestors. Ignores unknown ids in `have`. None if there is no such branch. The bundle can be read until the
     * scope closes, even if the branch changes. Accepts all malformed commits that `git clone` accepts. Fails with
     * `RepoRejected` if an object is unsafe to check out or the branch is larger than the host's limit. With `anonymous` it
     * reads the repository below `publicUrl` and sends no credential.
     */
    readonly fetch: (
      repo: Repo,
      branch: BranchName | null,
      have: ReadonlyArray<CommitId>,
      readAs: ReadAs
    ) => Effect.Effect<Option.Option<Fetched>, RepoNotFound | RepoRejected | RepoUnavailable, Scope.Scope>
    /**
     * Fast-forwards one branch, and no other, to its head in the bundle, or creates it. Never overwrites: a branch with
     * other commits stays as it is. Pushing the current head changes nothing.
     */
    readonly push: <E>(
      repo: Repo,
      branch: BranchName,
      bundle: Stream.Stream<Uint8Array, E>
    ) => Effect.Effect<void, BundleRefused | E | PushRejected | RepoNotFound | RepoUnavailable>
  }
>()("domain/repo/RepoHost") {}
