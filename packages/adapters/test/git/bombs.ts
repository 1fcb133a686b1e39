/** Decompression bombs: small repositories that expand to huge ones. Each creates a commit and returns its id. */
import type { BranchName, CommitId } from "@castellan/domain/repo/Repo.ts"
import { execFileSync } from "node:child_process"
import { mkdtempSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { git } from "./author.ts"
import { blobOf, commitOf, treeOf } from "./rawObjects.ts"

export type Bomb = (repository: string) => CommitId

/** 8 levels with 10 references to the same tree each: 10^8 files. */
export const bomb: Bomb = (repository) => {
  const names = Array.from({ length: 10 }, (_, n) => `d${n}`)
  let mode = "100644"
  let id = blobOf(repository, "boom")
  for (let level = 0; level < 8; level++) {
    id = treeOf(
      repository,
      names.map((name) => [mode, name, id])
    )
    mode = "40000"
  }
  return commitOf(repository, id)
}

/** Deeply nested directories. */
export const nested =
  (levels: number): Bomb =>
  (repository) => {
    const blob = blobOf(repository, "deep")
    // One process writes all directories.
    const script = [
      "commit refs/made/deep\ncommitter A <a@example.com> 1700000000 +0000\ndata 1\nm\n",
      `M 100644 ${blob} ${"d/".repeat(levels)}f\n`,
      `M 100644 ${blob} top\n\n`
    ]
    git(repository, ["fast-import", "--quiet"], Buffer.from(script.join("")))
    return git(repository, ["rev-parse", "refs/made/deep"]).toString().trim() as CommitId
  }

/** One directory with this many files. */
export const wide =
  (files: number): Bomb =>
  (repository) => {
    const blob = blobOf(repository, "")
    const lines = Array.from({ length: files }, (_, n) => `100644 blob ${blob}\tfile-${String(n).padStart(8, "0")}\n`)
    return commitOf(
      repository,
      git(repository, ["mktree"], Buffer.from(lines.join("")))
        .toString()
        .trim()
    )
  }

/** A file of this many zero bytes, which git compresses a thousandfold. */
export const zeros =
  (mebibytes: number): Bomb =>
  (repository) => {
    const make = `head -c ${mebibytes}M /dev/zero | git --git-dir "$0" hash-object -w --stdin`
    const blob = execFileSync("sh", ["-c", make, repository]).toString().trim()
    return commitOf(repository, treeOf(repository, [["100644", "zeros", blob]]))
  }

/** A commit whose message has this many bytes. */
export const message =
  (mebibytes: number): Bomb =>
  (repository) => {
    const tree = treeOf(repository, [["100644", "a", blobOf(repository, "1")]])
    return commitOf(repository, tree, undefined, undefined, "m".repeat(mebibytes * 1024 * 1024))
  }

/** Files whose names are not UTF-8. */
export const notText: Bomb = (repository) => {
  const blob = Buffer.from(blobOf(repository, "1"), "hex")
  const entry = (name: ReadonlyArray<number>) => Buffer.from([...Buffer.from("100644 "), ...name, 0, ...blob])
  const tree = Buffer.concat([entry([0x61]), entry([0x62, 0xff, 0xfe]), entry([0xc3])])
  const id = git(repository, ["hash-object", "-t", "tree", "-w", "--literally", "--stdin"], tree).toString().trim()
  return commitOf(repository, id)
}

/** Bundles a branch at such a commit, with `others` as further branches. */
export const bundleOf = (directory: string, make: Bomb, branch: BranchName, others = 0): Buffer => {
  const repository = join(mkdtempSync(join(directory, "bomb-")), "repository.git")
  git(repository, ["init", "--bare", "--quiet"])
  const commit = make(repository)
  const refs = [branch as string, ...Array.from({ length: others }, (_, n) => `other-${n}`)]
  const updates = refs.map((ref) => `create refs/heads/${ref} ${commit}\n`)
  git(repository, ["update-ref", "--stdin"], Buffer.from(updates.join("")))
  const file = join(directory, "bomb.bundle")
  git(repository, ["bundle", "create", "--quiet", file, "--branches"])
  return readFileSync(file)
}
