import { Schema } from "effect"

/** An owner of repositories: a user or an organization of the host. */
export const RepoOwner = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})$/)).pipe(
  Schema.brand("RepoOwner")
)
export type RepoOwner = typeof RepoOwner.Type

/** What a repository is called below its owner: 1 to 100 characters, as GitHub allows them. */
export const RepoName = Schema.String.check(Schema.isPattern(/^(?!\.{1,2}$)(?!.*\.git$)[A-Za-z0-9_.-]{1,100}$/)).pipe(
  Schema.brand("RepoName")
)
export type RepoName = typeof RepoName.Type

/** Which repository of a host. Names that differ in case alone are of one repository. */
export class Repo extends Schema.Class<Repo>("Repo")({ owner: RepoOwner, name: RepoName }) {}

/** A branch's name, as git allows it and no program takes it for an option. */
export const BranchName = Schema.String.check(
  Schema.isPattern(
    /^(?![-/.])(?!.*(?:\.\.|\/\/|@\{|\/\.|\.lock(?:\/|$)))(?!@$)[^\0-\x20\x7f ~^:?*[\\]{1,200}(?<![/.])$/
  )
).pipe(Schema.brand("BranchName"))
export type BranchName = typeof BranchName.Type

/** The id of a commit: 40 hexadecimal digits, or 64. */
export const CommitId = Schema.String.check(Schema.isPattern(/^(?:[0-9a-f]{40}|[0-9a-f]{64})$/)).pipe(
  Schema.brand("CommitId")
)
export type CommitId = typeof CommitId.Type

/** The branch that a repository made here begins with. */
export const firstBranch = BranchName.make("main")

/** A repository as its host has it. */
export class Repository extends Schema.Class<Repository>("Repository")({
  repo: Repo,
  defaultBranch: BranchName,
  /** Whether it is read by those alone whom its owner lets. */
  isPrivate: Schema.Boolean
}) {}
