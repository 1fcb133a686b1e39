import * as Git from "@castellan/adapters/git/Git.ts"
import { CommitId } from "@castellan/domain/repo/Repo.ts"
import type { Author, Content, NewAuthor } from "@castellan/testkit/contracts/RepoHost/Author.ts"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const quoted = (path: string) => `"${path.replace(/["\\]/g, (special) => `\\${special}`).replaceAll("\n", "\\n")}"`

const data = (bytes: string | Uint8Array) => [
  Buffer.from(`data ${Buffer.byteLength(bytes)}\n`),
  Buffer.from(bytes as Uint8Array),
  Buffer.from("\n")
]

/** A file in the format of `git fast-import`. */
const file = (path: string, content: Content): ReadonlyArray<Buffer> => {
  const line = (mode: string, what: string) => Buffer.from(`M ${mode} ${what} ${quoted(path)}\n`)
  if (typeof content === "string" || content instanceof Uint8Array) return [line("100644", "inline"), ...data(content)]
  return "link" in content ? [line("120000", "inline"), ...data(content.link)] : [line("160000", content.submodule)]
}

/** Runs the real git in a repository. */
export const git = (repository: string, args: ReadonlyArray<string>, input?: Uint8Array): Buffer =>
  execFileSync("git", ["--git-dir", repository, ...args], {
    env: { PATH: "/usr/local/bin:/usr/bin:/bin", HOME: "/nonexistent", GIT_CONFIG_NOSYSTEM: "1" },
    input: input ?? "",
    maxBuffer: 256 * 1024 * 1024,
    stdio: ["pipe", "pipe", "pipe"]
  })

/** Makes commits and bundles with the real git, in a temporary repository. */
export const author: NewAuthor = Effect.map(Git.workspace, (directory): Author => {
  const repository = join(directory, "repository.git")
  git(repository, ["init", "--bare", "--quiet"])
  let made = 0

  /** References a commit, so that git does not treat it as unreachable. */
  const keep = (commit: string) => git(repository, ["update-ref", `refs/kept/${commit}`, commit])

  return {
    commit: (files, parents = []) =>
      Effect.sync(() => {
        const ref = `refs/made/${made++}`
        const [first, ...others] = parents
        const head = [
          `commit ${ref}\n`,
          `committer Somebody <somebody@example.com> ${1_700_000_000 + made} +0000\n`,
          "data 8\na commit\n",
          first === undefined ? "" : `from ${first}\n`,
          ...others.map((parent) => `merge ${parent}\n`),
          "deleteall\n"
        ]
        const input = [
          Buffer.from(head.join("")),
          ...Object.entries(files).flatMap(([path, content]) => file(path, content)),
          Buffer.from("\n")
        ]
        git(repository, ["fast-import", "--quiet"], Buffer.concat(input))
        return CommitId.make(git(repository, ["rev-parse", ref]).toString().trim())
      }),
    bundle: (branches, have = []) =>
      Effect.sync(() => {
        const path = join(directory, `bundle-${made++}`)
        const refs = Object.entries(branches).map(([branch, commit]) => [`refs/heads/${branch}`, commit] as const)
        for (const [ref, commit] of refs) git(repository, ["update-ref", ref, commit])
        git(repository, ["bundle", "create", path, ...refs.map(([ref]) => ref), ...have.map((commit) => `^${commit}`)])
        for (const [ref] of refs) git(repository, ["update-ref", "-d", ref])
        return readFileSync(path)
      }),
    unbundle: (bundle) =>
      Effect.try({
        try: () => {
          const path = join(directory, `taken-${made++}`)
          writeFileSync(path, bundle)
          const printed = git(repository, ["bundle", "unbundle", path]).toString().trim().split("\n")
          return Object.fromEntries(
            printed.map((line) => {
              const [commit, ref] = line.split(" ")
              keep(commit!)
              return [ref!.replace("refs/heads/", ""), CommitId.make(commit!)]
            })
          )
        },
        catch: (cause) => cause
      }),
    files: (commit) =>
      Effect.sync(() => {
        const paths = git(repository, ["ls-tree", "-r", "-z", "--name-only", commit]).toString().split("\0")
        return Object.fromEntries(
          paths.filter(Boolean).map((path) => [path, git(repository, ["show", `${commit}:${path}`]).toString()])
        )
      })
  }
})
