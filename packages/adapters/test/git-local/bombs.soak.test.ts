import * as Git from "@castellan/adapters/git/Git.ts"
import * as LocalRepos from "@castellan/adapters/git-local/LocalRepos.ts"
import { RepoPath, treeLimits } from "@castellan/domain/repo/FileTree.ts"
import { firstBranch, Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Stream } from "effect"
import { type Bomb, bomb, bundleOf, message, nested, notText, wide, zeros } from "../git/bombs.ts"
import { directory } from "./temporaryRepos.ts"

const limits = { ...treeLimits, entries: 20_000 }

const layer = Layer.unwrap(Effect.map(directory, (directory) => LocalRepos.layer({ directory, treeLimits: limits })))

let repositories = 0

/** A repository with such a commit on its default branch. */
const pushed = Effect.fnUntraced(function* (make: Bomb, others?: number) {
  const host = yield* RepoHost
  const repo = new Repo({ owner: host.supports.owner, name: RepoName.make(`bomb-${repositories++}`) })
  yield* host.ensure(repo)
  const bundle = bundleOf(yield* Git.workspace, make, firstBranch, others)
  yield* host.push(repo, firstBranch, Stream.make(bundle))
  return repo
})

const treeOf = (repo: Repo) => Effect.flatMap(RepoHost, (host) => Effect.map(host.tree(repo, null), Option.getOrThrow))

const read = (repo: Repo, path: string) =>
  Effect.flatMap(RepoHost, (host) =>
    Effect.map(host.readFile(repo, RepoPath.make(path)), (bytes) => Buffer.from(bytes).toString())
  )

describe("A decompression bomb in a local repository", () => {
  it.layer(layer, { excludeTestServices: true })((it) => {
    it.effect("has its tree truncated if a few trees expand to a hundred million files", () =>
      Effect.gen(function* () {
        const repo = yield* pushed(bomb)
        const { entries, truncated } = yield* treeOf(repo)
        assert.deepStrictEqual([entries.length, truncated], [limits.entries, true])
        // Unlisted files can be read, and the repository accepts pushes.
        assert.strictEqual(yield* read(repo, Array.from({ length: 8 }, () => "d9").join("/")), "boom")
        const fetched = yield* (yield* RepoHost).fetch(repo, null, [], "service")
        assert.isTrue(Option.isSome(fetched))
      })
    )

    it.effect("has its tree truncated if 5,000 directories are nested", () =>
      Effect.gen(function* () {
        const repo = yield* pushed(nested(5000))
        const { entries, truncated } = yield* treeOf(repo)
        assert.isTrue(truncated)
        for (const { path } of entries) assert.isAtMost(path.length, limits.path)
        assert.strictEqual(yield* read(repo, "top"), "deep")
      })
    )

    it.effect("has its tree truncated if one directory has too many files", () =>
      Effect.gen(function* () {
        const repo = yield* pushed(wide(limits.entries + 1))
        const { entries, truncated } = yield* treeOf(repo)
        assert.deepStrictEqual([entries.length, truncated], [limits.entries, true])
        assert.strictEqual(yield* read(repo, `file-${String(limits.entries).padStart(8, "0")}`), "")
      })
    )

    it.effect("lists a file that expands a thousandfold, but does not read it", () =>
      Effect.gen(function* () {
        const repo = yield* pushed(zeros(32))
        const { entries, truncated } = yield* treeOf(repo)
        assert.isFalse(truncated)
        assert.deepStrictEqual(
          entries.map(({ path, size }) => [path, size]),
          [["zeros", 32 * 1024 * 1024]]
        )
        assert.strictEqual((yield* Effect.flip(read(repo, "zeros")))._tag, "RepoFileTooLarge")
      })
    )

    it.effect("is listed and read despite a huge commit message", () =>
      Effect.gen(function* () {
        const repo = yield* pushed(message(8))
        assert.lengthOf((yield* treeOf(repo)).entries, 1)
        assert.strictEqual(yield* read(repo, "a"), "1")
      })
    )

    it.effect("is rejected if its trees or commits are huge when decompressed", () =>
      Effect.gen(function* () {
        const kept = yield* pushed(wide(1))
        const bundle = bundleOf(yield* Git.workspace, message(65), firstBranch)
        assert.isBelow(bundle.length, 1024 * 1024)
        const host = yield* RepoHost
        const refused = yield* Effect.flip(host.push(kept, firstBranch, Stream.make(bundle)))
        assert.strictEqual(refused._tag, "BundleRefused")
        assert.lengthOf((yield* treeOf(kept)).entries, 1)
      })
    )

    it.effect("lists names that are not UTF-8 with replacement characters", () =>
      Effect.gen(function* () {
        const repo = yield* pushed(notText)
        const { entries } = yield* treeOf(repo)
        assert.deepStrictEqual(
          entries.map(({ path }) => path),
          ["a", "b\ufffd\ufffd", "\ufffd"]
        )
        assert.strictEqual((yield* Effect.flip(read(repo, "\ufffd")))._tag, "RepoFileNotFound")
      })
    )

    it.effect("accepts one branch of a bundle with thousands", () =>
      Effect.gen(function* () {
        const repo = yield* pushed(wide(1), 1000)
        assert.lengthOf((yield* treeOf(repo)).entries, 1)
        const other = yield* (yield* RepoHost).fetch(repo, firstBranch, [], "service")
        assert.strictEqual(Option.getOrThrow(other).branch, firstBranch)
      })
    )
  })
})
