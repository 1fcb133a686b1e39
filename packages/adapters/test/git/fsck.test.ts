/** Faults in git objects: those that `git clone` accepts in old repositories, and those that are unsafe. */
import * as Bundles from "@castellan/adapters/git/Bundles.ts"
import * as Git from "@castellan/adapters/git/Git.ts"
import { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import type { ReadAs } from "@castellan/domain/repo/ReadAs.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { GitHubEmulator } from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, type Layer, Option, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { randomBytes } from "node:crypto"
import { join } from "node:path"
import { pathToFileURL } from "node:url"
import { besideOthers } from "../git-local/temporaryRepos.ts"
import { emulated } from "../github/emulatedGitHub.ts"
import { author, git } from "./author.ts"
import { blemished, blemishes, blobOf, commitOf, hostile, treeOf } from "./rawObjects.ts"

/** A local repository that is accessed by its URL, like a remote one. */
const remote = Effect.gen(function* () {
  const path = join(yield* Git.workspace, "remote.git")
  yield* Git.text(["init", "--bare", "--quiet", "--initial-branch=main", path])
  return { path, url: pathToFileURL(path).href }
})

const bytesOf = (found: Effect.Success<ReturnType<typeof Bundles.fetchBundle>>) =>
  Effect.map(Stream.runCollect(Option.getOrThrow(Option.getOrThrow(found).bundle)), (pieces) => Buffer.concat(pieces))

const name = RepoName.make("old")

/** The directory of a repository that can be read that way. */
const directoryFor = Effect.fnUntraced(function* (readAs: ReadAs) {
  const github = yield* GitHubEmulator
  const host = yield* RepoHost
  const owner = readAs === "anonymous" ? RepoOwner.make("somebody") : host.supports.owner
  const repo = new Repo({ owner, name })
  if (readAs === "service") yield* host.ensure(repo)
  const directory =
    readAs === "anonymous"
      ? yield* Effect.promise(() => github.publish(owner, name))
      : github.repositoryDirectory(owner, name)!
  return { repo, directory }
})

type Place = readonly [
  name: string,
  layer: Layer.Layer<GitHubEmulator | RepoHost, unknown>,
  readAs: "anonymous" | "service"
]

const places: ReadonlyArray<Place> = [
  ["GitHub, with the service's credential", emulated(), "service"],
  ["GitHub, anonymously", emulated(), "anonymous"],
  ["a directory, anonymously", besideOthers, "anonymous"]
]

for (const [place, layer, readAs] of places) {
  describe(`Faulty objects in ${place}`, () => {
    it.live("fetches commits with harmless faults, complete and incrementally", () =>
      Effect.gen(function* () {
        const { directory, repo } = yield* directoryFor(readAs)
        const head = blemished(directory)
        const host = yield* RepoHost
        const reader = yield* author
        const found = yield* host.fetch(repo, null, [], readAs)
        assert.deepStrictEqual(yield* reader.unbundle(yield* bytesOf(found)), { main: head })
        const next = commitOf(directory, treeOf(directory, [["100644", "a", blobOf(directory, "new")]]), head)
        git(directory, ["update-ref", "refs/heads/main", next])
        const rest = yield* host.fetch(repo, firstBranch, [head], readAs)
        assert.deepStrictEqual(yield* reader.unbundle(yield* bytesOf(rest)), { main: next })
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("shows an existing branch where HEAD names a missing one", () =>
      Effect.gen(function* () {
        const { directory, repo } = yield* directoryFor(readAs)
        const head = blemished(directory, "other")
        const host = yield* RepoHost
        const found = Option.getOrThrow(yield* host.fetch(repo, null, [], readAs))
        assert.deepStrictEqual([found.branch, found.commit] as const, ["other" as never, head])
        if (readAs === "anonymous") return
        const tree = Option.getOrThrow(yield* host.tree(repo, null))
        assert.deepStrictEqual(
          tree.entries.map((entry) => entry.path),
          ["a", "d", "d/a"]
        )
        assert.isTrue(Option.isNone(yield* host.tree(repo, tree.revision)))
        assert.strictEqual(Buffer.from(yield* host.readFile(repo, RepoPath.make("d/a"))).toString(), "text\n")
      }).pipe(Effect.scoped, Effect.provide(layer))
    )

    it.live("rejects unsafe objects permanently and names the fault", () =>
      Effect.gen(function* () {
        const { directory, repo } = yield* directoryFor(readAs)
        const bad = commitOf(directory, hostile["hasDotgit"]!(directory))
        const head = commitOf(directory, treeOf(directory, [["100644", "a", blobOf(directory, "1")]]), bad)
        git(directory, ["update-ref", "refs/heads/main", head])
        const host = yield* RepoHost
        const rejected = yield* Effect.flip(host.fetch(repo, null, [], readAs))
        assert.deepInclude(rejected, { _tag: "RepoRejected", repo, why: "unsafe_object", fault: "hasDotgit" })
      }).pipe(Effect.scoped, Effect.provide(layer))
    )
  })
}

describe("A fetch from a remote", () => {
  it.live("fails without the exceptions for harmless faults, which shows that the fixtures have them", () =>
    Effect.gen(function* () {
      const { path } = yield* remote
      blemished(path)
      const report = execFileSync("sh", ["-c", 'git --git-dir "$1" fsck 2>&1 || :', "sh", path], { encoding: "utf8" })
      for (const blemish of blemishes) assert.include(report, ` ${blemish}: `)
    }).pipe(Effect.scoped)
  )

  for (const [what, make] of Object.entries(hostile)) {
    it.live(`rejects a tree with the fault ${what}`, () =>
      Effect.gen(function* () {
        const { path, url } = yield* remote
        git(path, ["update-ref", "refs/heads/main", commitOf(path, make(path))])
        const failed = yield* Effect.flip(Bundles.fetchBundle({ url }, null, []))
        assert.deepStrictEqual(Bundles.rejectionOf(failed), { why: "unsafe_object", fault: what.split(" ")[0]! })
      }).pipe(Effect.scoped)
    )
  }

  it.live("rejects a repository beyond the limits with too_large", () =>
    Effect.gen(function* () {
      const { path, url } = yield* remote
      const blob = git(path, ["hash-object", "-w", "--stdin"], randomBytes(300_000)).toString().trim()
      git(path, ["update-ref", "refs/heads/main", commitOf(path, treeOf(path, [["100644", "a", blob]]))])
      const limits = { fileSize: 200_000, memory: 8 * 1024 ** 3 }
      const failed = yield* Effect.flip(Bundles.fetchBundle({ url }, null, [], limits))
      assert.deepStrictEqual(Bundles.rejectionOf(failed), { why: "too_large", fault: null })
      assert.isTrue(Option.isSome(yield* Bundles.fetchBundle({ url }, null, [], { ...limits, fileSize: 400_000 })))
    }).pipe(Effect.scoped)
  )

  it.live("takes an existing branch where HEAD names a missing one", () =>
    Effect.gen(function* () {
      for (const [branches, taken] of [
        [["zebra", "apple"], "apple"],
        [["apple", "master"], "master"]
      ] as const) {
        const { path, url } = yield* remote
        const commit = commitOf(path, treeOf(path, [["100644", "a", blobOf(path, "1")]]))
        for (const branch of branches) git(path, ["update-ref", `refs/heads/${branch}`, commit])
        const found = Option.getOrThrow(yield* Bundles.fetchBundle({ url }, null, []))
        assert.deepStrictEqual([found.branch, found.commit] as const, [taken as never, commit])
      }
    }).pipe(Effect.scoped)
  )

  it.live("takes the branch at a detached HEAD, or its commit where no branch exists", () =>
    Effect.gen(function* () {
      const { path, url } = yield* remote
      const first = commitOf(path, treeOf(path, [["100644", "a", blobOf(path, "1")]]))
      const second = commitOf(path, treeOf(path, [["100644", "a", blobOf(path, "2")]]), first)
      git(path, ["update-ref", "refs/heads/main", second])
      git(path, ["update-ref", "refs/heads/older", first])
      git(path, ["update-ref", "--no-deref", "HEAD", first])
      const older = Option.getOrThrow(yield* Bundles.fetchBundle({ url }, null, []))
      assert.deepStrictEqual([older.branch, older.commit] as const, ["older" as never, first])
      for (const branch of ["main", "older"]) git(path, ["update-ref", "-d", `refs/heads/${branch}`])
      const bare = Option.getOrThrow(yield* Bundles.fetchBundle({ url }, null, []))
      assert.deepStrictEqual([bare.branch, bare.commit], [firstBranch, first])
      const here = Option.getOrThrow(yield* Bundles.createBundle(path, null, []))
      assert.deepStrictEqual([here.branch, here.commit], [firstBranch, first])
      assert.strictEqual(yield* Bundles.defaultBranchOf(path), firstBranch)
    }).pipe(Effect.scoped)
  )
})
