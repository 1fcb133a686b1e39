/** Writes git objects with faults: those of old programs, and those of attackers. */
import { CommitId } from "@castellan/domain/repo/Repo.ts"
import { git } from "./author.ts"

const write = (repository: string, type: string, content: string | Buffer): string =>
  git(repository, ["hash-object", "-t", type, "-w", "--literally", "--stdin"], Buffer.from(content as string))
    .toString()
    .trim()

export const blobOf = (repository: string, text: string): string => write(repository, "blob", text)

/** A tree of exactly these entries, in this order. */
export const treeOf = (
  repository: string,
  entries: ReadonlyArray<readonly [mode: string, name: string, id: string]>
): string =>
  write(
    repository,
    "tree",
    Buffer.concat(entries.flatMap(([mode, name, id]) => [Buffer.from(`${mode} ${name}\0`), Buffer.from(id, "hex")]))
  )

const person = "A <a@example.com> 1700000000 +0000"
const signed = `author ${person}\ncommitter ${person}\n`

/** A commit whose header, after its tree and its parent, is the given text. */
export const commitOf = (
  repository: string,
  tree: string,
  parent?: string,
  header = signed,
  message = "m\n"
): CommitId =>
  CommitId.make(
    write(
      repository,
      "commit",
      `tree ${tree}\n${parent === undefined ? "" : `parent ${parent}\n`}${header}\n${message}`
    )
  )

const byAuthor = (author: string) => `author ${author}\ncommitter ${person}\n`

/** Headers of commits by the harmless fault that they have. */
const headers: Record<string, string> = {
  badDate: byAuthor("A <a@example.com> yesterday +0000"),
  badDateOverflow: byAuthor("A <a@example.com> 99999999999999999999 +0000"),
  badEmail: byAuthor("A <a@example.com 1700000000 +0000"),
  badName: byAuthor("A> <a@example.com> 1700000000 +0000"),
  badTimezone: byAuthor("A <a@example.com> 1700000000 +051800"),
  missingAuthor: `committer ${person}\n`,
  missingCommitter: `author ${person}\n`,
  missingEmail: byAuthor("A 1700000000 +0000"),
  missingNameBeforeEmail: byAuthor("<a@example.com> 1700000000 +0000"),
  missingSpaceBeforeDate: byAuthor("A <a@example.com>1700000000 +0000"),
  missingSpaceBeforeEmail: byAuthor("A<a@example.com> 1700000000 +0000"),
  multipleAuthors: `author ${person}\nauthor ${person}\ncommitter ${person}\n`,
  zeroPaddedDate: byAuthor("A <a@example.com> 01700000000 +0000")
}

/** Trees by the harmless fault that they have. */
const trees: Record<string, (repository: string, blob: string) => string> = {
  badFilemode: (repository, blob) => treeOf(repository, [["100600", "a", blob]]),
  duplicateEntries: (repository, blob) =>
    treeOf(repository, [
      ["100644", "a", blob],
      ["40000", "a", treeOf(repository, [["100644", "b", blob]])]
    ]),
  gitattributesLineLength: (repository) =>
    treeOf(repository, [["100644", ".gitattributes", blobOf(repository, `${"a".repeat(3000)} text\n`)]]),
  nullSha1: (repository) => treeOf(repository, [["160000", "sub", "0".repeat(40)]]),
  treeNotSorted: (repository, blob) =>
    treeOf(repository, [
      ["100644", "b", blob],
      ["100644", "a", blob]
    ])
}

/** The faults of the commits that `blemished` creates. */
export const blemishes: ReadonlyArray<string> = [...Object.keys(headers), ...Object.keys(trees), "nulInCommit"]

/**
 * A branch of a repository with every blemish in one commit or another. The newest commit has some, too, and the files
 * `a` and `d/a`.
 */
export const blemished = (repository: string, branch = "main"): CommitId => {
  const blob = blobOf(repository, "text\n")
  const plain = treeOf(repository, [["100644", "a", blob]])
  let head = commitOf(repository, plain, undefined, headers["badDateOverflow"])
  for (const header of Object.values(headers)) head = commitOf(repository, plain, head, header)
  for (const tree of Object.values(trees)) head = commitOf(repository, tree(repository, blob), head)
  head = commitOf(repository, plain, head, signed, "before\0after\n")
  const padded = treeOf(repository, [
    ["0100644", "a", blob],
    ["040000", "d", plain]
  ])
  head = commitOf(repository, padded, head, headers["missingSpaceBeforeEmail"])
  git(repository, ["update-ref", `refs/heads/${branch}`, head])
  return head
}

const modules = (repository: string, text: string) =>
  treeOf(repository, [["100644", ".gitmodules", blobOf(repository, `[submodule "s"]\n\tpath = s\n${text}\n`)]])

const url = "\turl = https://example.com/s"

/** Unsafe trees by git's name of their fault. */
export const hostile: Record<string, (repository: string) => string> = {
  hasDotgit: (repository) => treeOf(repository, [["100644", ".git", blobOf(repository, "gitdir: /")]]),
  "hasDotgit in capitals": (repository) =>
    treeOf(repository, [["40000", ".GIT", treeOf(repository, [["100755", "config", blobOf(repository, "x")]])]]),
  hasDot: (repository) =>
    treeOf(repository, [["40000", ".", treeOf(repository, [["100644", "a", blobOf(repository, "x")]])]]),
  hasDotdot: (repository) =>
    treeOf(repository, [["40000", "..", treeOf(repository, [["100644", "a", blobOf(repository, "x")]])]]),
  fullPathname: (repository) => treeOf(repository, [["100644", "../../a", blobOf(repository, "x")]]),
  gitmodulesSymlink: (repository) => treeOf(repository, [["120000", ".gitmodules", blobOf(repository, "/etc/passwd")]]),
  gitmodulesUrl: (repository) => modules(repository, "\turl = --upload-pack=touch"),
  gitmodulesPath: (repository) => modules(repository, `\tpath = -s\n${url}`),
  gitmodulesUpdate: (repository) => modules(repository, `${url}\n\tupdate = !touch`),
  gitmodulesName: (repository) =>
    treeOf(repository, [["100644", ".gitmodules", blobOf(repository, `[submodule "../s"]\n\tpath = s\n${url}\n`)]])
}
