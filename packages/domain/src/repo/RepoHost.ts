/** Where repositories are kept, with the service's own right to all that belong to `owner`. */
import { Context, type Effect, type Option, Schema, type Scope, type Stream } from "effect"
import { InternalCause } from "../InternalCause.ts"
import { type FileTree, RepoPath } from "./FileTree.ts"
import type { ReadAs } from "./ReadAs.ts"
import { BranchName, type CommitId, Repo, type Repository, type RepoOwner } from "./Repo.ts"

/** The host has no such repository, or does not show it to this service. */
export class RepoNotFound extends Schema.TaggedError<RepoNotFound>()("RepoNotFound", { repo: Repo }) {}

/** The default branch has no file at the path: nothing, a directory, a submodule, or a link that leads to none of its files. */
export class RepoFileNotFound extends Schema.TaggedError<RepoFileNotFound>()("RepoFileNotFound", {
  path: RepoPath
}) {}

/** The file has more bytes than are read at once. */
export class RepoFileTooLarge extends Schema.TaggedError<RepoFileTooLarge>()("RepoFileTooLarge", {
  path: RepoPath
}) {}

/** The branch has commits that the pushed one does not contain; nothing was changed. */
export class PushRejected extends Schema.TaggedError<PushRejected>()("PushRejected", {
  repo: Repo,
  branch: BranchName
}) {}

/** What was to be pushed is no git bundle, is damaged, or has not the branch. */
export class BundleRefused extends Schema.TaggedError<BundleRefused>()("BundleRefused", { cause: InternalCause }) {}

/** The host could not be asked, or refused; `retryable` tells whether asking again may help. */
export class RepoUnavailable extends Schema.TaggedError<RepoUnavailable>()("RepoUnavailable", {
  operation: Schema.String,
  retryable: Schema.Boolean,
  /** How long the host asked to be left alone, in milliseconds; null where it did not say. */
  retryAfterMs: Schema.NullOr(Schema.Int),
  cause: InternalCause
}) {}

/** Why a repository is refused for good: `unsafe_object` or `too_large`. */
export const RejectedFor = Schema.Literals(["unsafe_object", "too_large"])
export type RejectedFor = typeof RejectedFor.Type

/** The branch's commits are refused. Asking again does not help while the branch has them. */
export class RepoRejected extends Schema.TaggedError<RepoRejected>()("RepoRejected", {
  repo: Repo,
  why: RejectedFor,
  /** What git calls the fault of the object, such as `hasDotgit`; null where the object has no part in it. */
  fault: Schema.NullOr(Schema.String),
  cause: InternalCause
}) {}

/** What a host is, for those who make and read URLs. */
export interface HostSupport {
  /** `github`, `local`, `memory`. */
  readonly name: string
  /** What the URL of each of its repositories begins with; no `/` at its end. */
  readonly url: string
  /** What the URLs of repositories began with in older versions. Such URLs are still read, and never given out. */
  readonly formerUrl?: string
  /** Whom the repositories belong to that the service makes for accounts. */
  readonly owner: RepoOwner
  /** What the URLs of repositories begin with that anyone may read, such as `https://github.com`. */
  readonly publicUrl: string
}

/** The commits of a branch on their way into a sandbox. */
export interface Fetched {
  readonly branch: BranchName
  /** Where the branch stands. */
  readonly commit: CommitId
  /** A git bundle with the branch and what it needs beyond the commits that were there; none if that is nothing. */
  readonly bundle: Option.Option<Stream.Stream<Uint8Array, RepoUnavailable>>
}

/** Bytes of a file that are read at most. */
export const maxFileBytes = 25 * 1024 * 1024

export class RepoHost extends Context.Service<
  RepoHost,
  {
    readonly supports: HostSupport
    /**
     * A private repository, made empty if there was none, with `firstBranch` as its default branch. Idempotent: the one
     * that stands is given back untouched.
     */
    readonly ensure: (repo: Repo) => Effect.Effect<Repository, RepoUnavailable>
    /** The repository of that name; none when there is no such repository. */
    readonly find: (repo: Repo) => Effect.Effect<Option.Option<Repository>, RepoUnavailable>
    /** Deletes the repository with all its commits. Succeeds when there is none. */
    readonly remove: (repo: Repo) => Effect.Effect<void, RepoUnavailable>
    /**
     * The tree of the default branch; empty for a repository without commits. It has all entries, or as many as the host's
     * `TreeLimits` allow and `truncated`. The limits hold while the tree is read: time and memory depend on them and not on
     * the tree. None if it is still the one of revision `known`, which is cheap to ask. Where the repository names a default branch that does not
     * exist, or none, another of its branches counts as the default one, here and in `readFile` and `fetch`.
     */
    readonly tree: (
      repo: Repo,
      known: string | null
    ) => Effect.Effect<Option.Option<FileTree>, RepoNotFound | RepoUnavailable>
    /**
     * The bytes of a file on the default branch, `maxFileBytes` at most. A symbolic link is read as the file it leads to in
     * the same tree, and never leads out of it.
     */
    readonly readFile: (
      repo: Repo,
      path: RepoPath
    ) => Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | RepoNotFound | RepoUnavailable>
    /** Whether anyone may read the repository of that name below `publicUrl`. No credential is sent. */
    readonly isPublic: (repo: Repo) => Effect.Effect<boolean, RepoUnavailable>
    /** As `tree`, of the repository below `publicUrl` in the right of anyone. Files may come without their sizes. */
    readonly publicTree: (
      repo: Repo,
      known: string | null
    ) => Effect.Effect<Option.Option<FileTree>, RepoNotFound | RepoUnavailable>
    /** As `readFile`, of the repository below `publicUrl` in the right of anyone. */
    readonly readPublicFile: (
      repo: Repo,
      path: RepoPath
    ) => Effect.Effect<Uint8Array, RepoFileNotFound | RepoFileTooLarge | RepoNotFound | RepoUnavailable>
    /**
     * A branch with all its commits, but those that `have` says are there already; ids it does not know are ignored.
     * The default branch if none is named; none if there is no such branch yet. The bundle can be read until the scope
     * closes, whatever becomes of the branch.
     * The commits may have any blemish that `git clone` takes. Objects that could do harm to whoever checks them out, and
     * branches larger than the host's limit, are rejected for good.
     * In the right of `anyone` it is the repository below `publicUrl`, and no credential is sent.
     */
    readonly fetch: (
      repo: Repo,
      branch: BranchName | null,
      have: ReadonlyArray<CommitId>,
      readAs: ReadAs
    ) => Effect.Effect<Option.Option<Fetched>, RepoNotFound | RepoRejected | RepoUnavailable, Scope.Scope>
    /**
     * Moves a branch, and no other, forward to where the bundle has it, making the branch if need be. Never overwrites:
     * a branch that has other commits stays as it is. Pushing the commit it stands at changes nothing.
     */
    readonly push: <E>(
      repo: Repo,
      branch: BranchName,
      bundle: Stream.Stream<Uint8Array, E>
    ) => Effect.Effect<void, BundleRefused | E | PushRejected | RepoNotFound | RepoUnavailable>
  }
>()("domain/repo/RepoHost") {}
