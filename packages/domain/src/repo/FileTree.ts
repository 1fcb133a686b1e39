import { Schema } from "effect"

/** A path in a repository: relative, with `/` between its parts, none of them empty, `.` or `..`. */
export const RepoPath = Schema.String.check(
  Schema.isPattern(/^(?!\/)(?:(?!\.{1,2}(?:\/|$))[^/\0]+(?:\/(?=.)|$))+$/s, {
    message: "must be a path in the repository"
  }),
  Schema.isMaxLength(4096, { message: "must be at most 4096 characters" })
).pipe(Schema.brand("RepoPath"))
export type RepoPath = typeof RepoPath.Type

/** An entry of a repository's tree. A submodule is a `tree` that has no entries of its own. */
export class TreeEntry extends Schema.Class<TreeEntry>("TreeEntry")({
  path: Schema.String,
  type: Schema.Literals(["blob", "tree"]),
  /** Git's id of it; of a submodule the commit it stands at. */
  sha: Schema.String,
  /** Bytes; of blobs only. */
  size: Schema.optionalKey(Schema.Int)
}) {}

/** Everything on a repository's default branch, by path. */
export interface FileTree {
  /** What the host knows this state by: the same for as long as nothing changes. */
  readonly revision: string
  readonly entries: ReadonlyArray<TreeEntry>
}
