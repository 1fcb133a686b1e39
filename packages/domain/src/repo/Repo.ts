import { Schema } from "effect"

/** An owner of repositories: a user or an organization of the host. */
export const RepoOwner = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})$/)).pipe(
  Schema.brand("RepoOwner")
)
export type RepoOwner = typeof RepoOwner.Type

/** The name of a repository without its owner: 1 to 100 characters, by GitHub's rules. */
export const RepoName = Schema.String.check(Schema.isPattern(/^(?!\.{1,2}$)(?!.*\.git$)[A-Za-z0-9_.-]{1,100}$/)).pipe(
  Schema.brand("RepoName")
)
export type RepoName = typeof RepoName.Type

/** Identifies a repository of a host. Names are case-insensitive. */
export class Repo extends Schema.Class<Repo>("Repo")({ owner: RepoOwner, name: RepoName }) {}

/** A valid git branch name that no program mistakes for an option. */
export const BranchName = Schema.String.check(
  Schema.isPattern(
    /^(?![-/.])(?!.*(?:\.\.|\/\/|@\{|\/\.|\.lock(?:\/|$)))(?!@$)[^\0-\x20\x7f ~^:?*[\\]{1,200}(?<![/.])$/
  )
).pipe(Schema.brand("BranchName"))
export type BranchName = typeof BranchName.Type

/** The id of a commit: 40 or 64 hexadecimal digits. */
export const CommitId = Schema.String.check(Schema.isPattern(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/)).pipe(
  Schema.brand("CommitId")
)
export type CommitId = typeof CommitId.Type

/** The default branch of repositories that this server creates. */
export const firstBranch = BranchName.make("main")

/** A repository as its host reports it. */
export class Repository extends Schema.Class<Repository>("Repository")({
  repo: Repo,
  defaultBranch: BranchName,
  /** Whether only users with permission can read it. */
  isPrivate: Schema.Boolean
}) {}
