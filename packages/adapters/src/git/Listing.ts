/** What is in a commit of a repository on this disk: its tree, and its files. */
import { RepoPath, TreeEntry } from "@castellan/domain/repo/FileTree.ts"
import { fileRead, RepoFileNotFound, RepoFileTooLarge } from "@castellan/domain/repo/RepoHost.ts"
import { Effect, Option, Schema } from "effect"
import { posix } from "node:path"
import * as Git from "./Git.ts"

/** Links that are followed in a row, and the bytes that one may have. */
const links = 5
const longest = 4096

const isPath = Schema.is(RepoPath)

/** A line of `git ls-tree`, with `-l` or without: mode, type, id, size and path. */
const linePattern = /^(\d+) (\w+) ([0-9a-f]+)(?: +(-|\d+))?\t(.*)$/s

interface Line {
  readonly mode: string
  readonly type: string
  readonly sha: string
  /** Undefined where it was not asked for. */
  readonly size: number | undefined
  readonly path: string
}

const linesOf = (printed: Buffer): ReadonlyArray<Line> =>
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

/** What lies at a path of a commit; none if that is nothing, or no file. */
const fileAt = Effect.fnUntraced(function* (
  repository: string,
  commit: string,
  path: string,
  limits: Git.GitLimits | undefined
) {
  let at = path
  for (let followed = 0; followed <= links; followed++) {
    const args = ["--literal-pathspecs", "ls-tree", "-z", "-l", "--full-tree", commit, "--", at]
    const line = linesOf(yield* Git.bytes(args, { repository, limits })).find((line) => line.path === at)
    if (line?.type !== "blob") return Option.none()
    if (line.mode !== linkMode) return Option.some(line)
    if (Number(line.size) > longest) return Option.none()
    const target = (yield* Git.bytes(["cat-file", "blob", line.sha], { repository, limits })).toString("utf8")
    at = posix.join(posix.dirname(at), target)
    if (target.startsWith("/") || !isPath(at)) return Option.none()
  }
  return Option.none()
})

/** All that is in a commit. Without sizes no file is needed for it. */
export const entriesOf = (repository: string, commit: string, withSizes: boolean) => {
  const args = ["ls-tree", "-r", "-t", ...(withSizes ? ["-l"] : []), "-z", "--full-tree", commit]
  return Effect.map(Git.bytes(args, { repository, most: mostListed }), (printed) => linesOf(printed).map(toEntry))
}

/** Bytes of a listing: some hundred thousand entries. A few small trees can name each other so that there are billions. */
const mostListed = 64 * 1024 * 1024

export const notFound = (path: RepoPath) => new RepoFileNotFound({ path })

/** The bytes of a file of a commit. */
export const readFile = Effect.fnUntraced(function* (
  repository: string,
  commit: string,
  path: RepoPath,
  limits?: Git.GitLimits
) {
  const found = yield* fileAt(repository, commit, path, limits)
  if (Option.isNone(found)) return yield* notFound(path)
  if (Number(found.value.size) > fileRead) return yield* new RepoFileTooLarge({ path })
  return yield* Git.bytes(["cat-file", "blob", found.value.sha], { repository, limits })
})
