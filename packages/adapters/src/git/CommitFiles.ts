/** Reads the tree and the files of a commit in a local repository. */
import {
  type FileTree,
  gatherTree,
  RepoPath,
  TreeEntry,
  type TreeGathering,
  type TreeLimits
} from "@castellan/domain/repo/FileTree.ts"
import { maxFileBytes, RepoFileNotFound, RepoFileTooLarge } from "@castellan/domain/repo/RepoHost.ts"
import { Effect, Option, Schema } from "effect"
import { posix } from "node:path"
import * as Git from "./Git.ts"

/** Maximum number of links followed in a row, and maximum bytes of a link's target. */
const maxLinks = 5
const maxLinkSize = 4096

const isPath = Schema.is(RepoPath)

/** A line of `git ls-tree`, with or without `-l`: mode, type, id, size and path. */
const linePattern = /^(\d+) (\w+) ([0-9a-f]+)(?: +(-|\d+))?\t(.*)$/s

interface Line {
  readonly mode: string
  readonly type: string
  readonly sha: string
  /** Undefined without `-l`. */
  readonly size: number | undefined
  readonly path: string
}

const parseLines = (printed: Buffer): ReadonlyArray<Line> =>
  printed
    .toString("utf8")
    .split("\0")
    .flatMap((line) => {
      const [, mode, type, sha, size, path] = linePattern.exec(line) ?? []
      return path === undefined
        ? []
        : [{ mode: mode!, type: type!, sha: sha!, size: size === undefined ? undefined : Number(size), path }]
    })

const toEntry = ({ path, sha, size, type }: Line): TreeEntry =>
  type === "blob"
    ? new TreeEntry({ path, type, sha, ...(size !== undefined && { size }) })
    : new TreeEntry({ path, type: "tree", sha })

const linkMode = "120000"

/** The file at a path of a commit, links followed; none if there is no file. */
const fileAt = Effect.fnUntraced(function* (repository: string, commit: string, path: string, options: Git.GitOptions) {
  let at = path
  for (let followed = 0; followed <= maxLinks; followed++) {
    const args = ["--literal-pathspecs", "ls-tree", "-z", "-l", "--full-tree", commit, "--", at]
    const line = parseLines(yield* Git.output(args, { ...options, repository })).find((line) => line.path === at)
    if (line?.type !== "blob") return Option.none()
    if (line.mode !== linkMode) return Option.some(line)
    if (Number(line.size) > maxLinkSize) return Option.none()
    const target = (yield* Git.output(["cat-file", "blob", line.sha], { ...options, repository })).toString("utf8")
    at = posix.join(posix.dirname(at), target)
    if (target.startsWith("/") || !isPath(at)) return Option.none()
  }
  return Option.none()
})

/** The most bytes of a line without its path: mode, type, id and size. */
const maxLineOverhead = 128

/**
 * Parses the output of `git ls-tree` chunk by chunk, and returns whether git should continue. Between two chunks it keeps at
 * most one line, up to the longest valid length.
 */
const treeParser = (gathering: TreeGathering, limits: TreeLimits) => {
  // A character is 4 bytes at most.
  const maxLine = limits.path * 4 + maxLineOverhead
  const maxOutput = limits.characters * 4 + limits.entries * maxLineOverhead
  let printed = 0
  let line = Buffer.alloc(0)
  let isTooLong = false
  const add = (piece: Buffer) => {
    isTooLong ||= line.length + piece.length > maxLine
    line = isTooLong ? Buffer.alloc(0) : Buffer.concat([line, piece])
  }
  return (chunk: Buffer): boolean => {
    printed += chunk.length
    let from = 0
    for (let end = chunk.indexOf(0); end >= 0; end = chunk.indexOf(0, from)) {
      add(chunk.subarray(from, end))
      from = end + 1
      const wasTooLong = isTooLong
      const [one] = parseLines(line)
      line = Buffer.alloc(0)
      isTooLong = false
      if (wasTooLong) gathering.leaveOut()
      else if (one !== undefined && !gathering.add(toEntry(one))) return false
    }
    add(chunk.subarray(from))
    if (printed <= maxOutput) return true
    gathering.leaveOut()
    return false
  }
}

/** The tree of a commit, up to the limits. Sizes need the files themselves, which a shallow repository lacks. */
export const treeOf = (
  repository: string,
  commit: string,
  withSizes: boolean,
  limits: TreeLimits
): Effect.Effect<FileTree, Git.GitFailed> =>
  Effect.suspend(() => {
    const gathering = gatherTree(limits)
    const args = ["ls-tree", "-r", "-t", ...(withSizes ? ["-l"] : []), "-z", "--full-tree", commit]
    return Effect.map(Git.run(args, { repository }, treeParser(gathering, limits)), () => gathering.tree(commit))
  })

export const notFound = (path: RepoPath) => new RepoFileNotFound({ path })

/** The bytes of a file of a commit. `fetching` has the limits of fetching a file that the repository lacks. */
export const readFile = Effect.fnUntraced(function* (
  repository: string,
  commit: string,
  path: RepoPath,
  fetching?: Git.GitLimits
) {
  const options: Git.GitOptions = fetching === undefined ? {} : { fetchesMissing: true, limits: fetching }
  const found = yield* fileAt(repository, commit, path, options)
  if (Option.isNone(found)) return yield* notFound(path)
  if (Number(found.value.size) > maxFileBytes) return yield* new RepoFileTooLarge({ path })
  return yield* Git.output(["cat-file", "blob", found.value.sha], { ...options, repository, maxOutput: maxFileBytes })
})
