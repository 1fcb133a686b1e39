import type { CommitId } from "@castellan/domain/repo/Repo.ts"
import { Effect, Option } from "effect"
import type { Content, NewAuthor } from "../../contracts/RepoHost/Author.ts"
import * as MemoryGit from "./MemoryGit.ts"

const fileOf = (content: Content): MemoryGit.MemoryFile => {
  if (typeof content === "string") return MemoryGit.fileOf(Buffer.from(content))
  if (content instanceof Uint8Array) return MemoryGit.fileOf(content)
  return "link" in content
    ? MemoryGit.fileOf(Buffer.from(content.link), "link")
    : MemoryGit.fileOf(Buffer.from(content.submodule), "submodule")
}

/** An author in memory who exchanges the bundles of `MemoryGit`. */
export const author: NewAuthor = Effect.sync(() => {
  let commits: MemoryGit.Commits = new Map()
  return {
    commit: (files, parents = []) =>
      Effect.sync(() => {
        const contents = new Map(Object.entries(files).map(([path, content]) => [path, fileOf(content)]))
        const made = MemoryGit.commitOf({ files: contents, parents, message: "a commit" })
        commits = new Map(commits).set(made.id, made)
        return made.id
      }),
    bundle: (branches, have = []) =>
      Effect.sync(() => {
        const parts = Object.entries(branches).flatMap(([branch, commit]) =>
          Option.toArray(MemoryGit.bundleOf(commits, branch, commit, have))
        )
        return MemoryGit.encode({
          branches,
          needs: parts.flatMap(({ needs }) => needs),
          commits: parts.flatMap(({ commits }) => commits)
        })
      }),
    unbundle: Effect.fnUntraced(function* (bytes) {
      const bundle = yield* Effect.fromOption(MemoryGit.decode(bytes))
      commits = yield* Effect.fromOption(MemoryGit.unbundled(commits, bundle))
      return bundle.branches
    }),
    files: (commit: CommitId) =>
      Effect.sync(() =>
        Object.fromEntries(
          Array.from(commits.get(commit)!.files, ([path, { bytes }]) => [path, String(Buffer.from(bytes))])
        )
      )
  }
})
