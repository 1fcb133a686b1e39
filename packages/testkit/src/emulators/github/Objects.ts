/** Reads commits, trees and files of a repository with git. */
import { posix } from "node:path"
import * as Git from "./Git.ts"

export interface Entry {
  readonly mode: string
  readonly type: "blob" | "commit" | "tree"
  readonly sha: string
  readonly size: number | undefined
  readonly path: string
}

/** Resolves a name to the id of an object of `type`; undefined if there is none. */
export const resolve = (directory: string, name: string, type: "blob" | "commit" | "tree") =>
  /^-|[:^]/.test(name)
    ? Promise.resolve(undefined)
    : Git.text(directory, "rev-parse", "--verify", "--quiet", `${name}^{${type}}`)

export const isEmpty = async (directory: string) =>
  (await Git.text(directory, "for-each-ref", "--count=1", "--format=1")) === ""

export const defaultBranch = async (directory: string) =>
  (await Git.text(directory, "symbolic-ref", "--short", "HEAD"))!

export const branches = async (directory: string) =>
  (await Git.text(directory, "for-each-ref", "--format=%(objectname) %(refname:lstrip=2)", "refs/heads"))!
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => ({ sha: line.slice(0, line.indexOf(" ")), name: line.slice(line.indexOf(" ") + 1) }))

/** The first `most` entries of a tree. */
export const list = async (
  directory: string,
  tree: string,
  recursive: boolean,
  most = Infinity
): Promise<ReadonlyArray<Entry>> => {
  const more = recursive ? ["-r", "-t"] : []
  const printed = (await Git.lines(directory, most, "ls-tree", "-z", "-l", "--full-tree", ...more, tree))!
  return printed.map((line) => {
    const tab = line.indexOf("\t")
    const [mode, type, sha, size] = line.slice(0, tab).split(/ +/)
    return {
      mode: mode!,
      type: type as Entry["type"],
      sha: sha!,
      size: size === "-" ? undefined : Number(size),
      path: line.slice(tab + 1)
    }
  })
}

/** The entry at a path below a tree. Symbolic links within the path are not followed. */
export const entryAt = async (directory: string, tree: string, path: string): Promise<Entry | undefined> => {
  let at = tree
  const parts = path.split("/")
  for (const [n, part] of parts.entries()) {
    const entry = (await list(directory, at, false)).find((one) => one.path === part)
    if (entry === undefined || n === parts.length - 1) return entry && { ...entry, path }
    if (entry.type !== "tree") return undefined
    at = entry.sha
  }
  return undefined
}

export const blob = async (directory: string, sha: string) => (await Git.bytes(directory, "cat-file", "blob", sha))!

/** The regular file that a symbolic link leads to, if it is in the repository. */
export const targetOf = async (directory: string, tree: string, link: Entry) => {
  const target = (await blob(directory, link.sha)).toString("utf8")
  const path = posix.normalize(posix.join(posix.dirname(link.path), target))
  const entry = target.startsWith("/") || path.startsWith("..") ? undefined : await entryAt(directory, tree, path)
  return { target, file: entry?.mode.startsWith("100") === true ? entry : undefined }
}

export const commit = async (directory: string, sha: string) => {
  const format = ["%T", "%P", "%an", "%ae", "%aI", "%cn", "%ce", "%cI", "%B"].join("%x00")
  const printed = (await Git.text(directory, "log", "-1", `--format=${format}`, sha))!
  const [tree, parents, an, ae, ad, cn, ce, cd, message] = printed.split("\0")
  return {
    tree: tree!,
    parents: parents!.split(" ").filter((one) => one !== ""),
    author: { name: an!, email: ae!, date: ad! },
    committer: { name: cn!, email: ce!, date: cd! },
    message: message!.trimEnd()
  }
}
