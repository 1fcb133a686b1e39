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
  /** Git's object id; for a submodule the id of its commit. */
  sha: Schema.String,
  /** Bytes. Only blobs have it. */
  size: Schema.optionalKey(Schema.Int)
}) {}

/** The entries of a repository's default branch, by path. */
export interface FileTree {
  /** Identifies this state of the branch. Stays the same until the branch changes. */
  readonly revision: string
  readonly entries: ReadonlyArray<TreeEntry>
  /** Whether entries are missing because of `TreeLimits`. */
  readonly truncated: boolean
}

/** Limits of a tree, applied while it is read: a few small git objects can stand for billions of paths. */
export interface TreeLimits {
  readonly entries: number
  /** Characters of all paths together, as JSON. */
  readonly characters: number
  /** Characters of one path. Entries with longer ones are left out. */
  readonly path: number
}

/** The default limits. A repository with 200,000 files is far below them. */
export const treeLimits: TreeLimits = { entries: 300_000, characters: 32 * 1024 * 1024, path: 4096 }

/** Collects the entries of a tree until a limit is reached. */
export const gatherTree = (limits: TreeLimits) => {
  const entries: Array<TreeEntry> = []
  let characters = 0
  let truncated = false
  let isFull = false
  return {
    /** Adds an entry if the limits allow it. False if no further entry can be added. */
    add: (entry: TreeEntry): boolean => {
      if (entry.path.length > limits.path) {
        truncated = true
        return !isFull
      }
      characters += JSON.stringify(entry.path).length
      if (isFull || entries.length === limits.entries || characters > limits.characters) {
        truncated = true
        isFull = true
        return false
      }
      entries.push(entry)
      return true
    },
    /** Marks the tree as incomplete. */
    leaveOut: () => {
      truncated = true
    },
    tree: (revision: string): FileTree => ({ revision, entries, truncated })
  }
}

export type TreeGathering = ReturnType<typeof gatherTree>

/** The tree of a repository without commits. */
export const emptyTree = (revision: string): FileTree => ({ revision, entries: [], truncated: false })
