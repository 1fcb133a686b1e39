import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import { createHash } from "node:crypto"
import type { Clauses } from "../contract.ts"
import type { Publish, NewAuthor } from "./Author.ts"
import { contractLimits } from "./contractLimits.ts"
import {
  main,
  otherBranch,
  path,
  utf8,
  unknownCommit,
  tagOf,
  withRepo,
  pushFiles,
  readTree,
  readWholeTree,
  entryLines,
  readText,
  fetchBundle,
  publishRepo
} from "./fixtures.ts"

/** The id of a git blob with these bytes. */
const blobId = (bytes: Uint8Array) => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex")

export const trees = <R>(newAuthor: NewAuthor, publish: Publish<R>): Clauses<R | RepoHost> => ({
  "a tree lists every file and directory with its git id, and every blob with its size": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        yield* pushFiles(yield* newAuthor, repo, {
          "b.txt": "12345",
          "a/deep/er": "",
          "a/b": "é",
          z: { link: "b.txt" }
        })
        const tree = yield* readWholeTree(repo)
        assert.deepStrictEqual(entryLines(tree), [
          "blob a/b 2",
          "blob a/deep/er 0",
          "blob b.txt 5",
          "blob z 5",
          "tree a",
          "tree a/deep"
        ])
        const ids = Object.fromEntries(tree.entries.map(({ path, sha }) => [path, sha]))
        for (const [file, text] of Object.entries({ "b.txt": "12345", "a/deep/er": "", "a/b": "é", z: "b.txt" })) {
          assert.strictEqual(ids[file], blobId(utf8(text)))
        }
        for (const directory of ["a", "a/deep"]) assert.match(ids[directory]!, /^[0-9a-f]{40}$/)
      })
    ),

  "a tree within the limits is complete even if it takes several reads": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        // Just below the limit of entries, and more bytes than a host reads from git at once.
        const names = Array.from({ length: 310 }, (_, n) => `${n % 7}/directory-${n % 11}/file-${n}-${"x".repeat(220)}`)
        yield* pushFiles(yield* newAuthor, repo, Object.fromEntries(names.map((name) => [name, name])))
        const { entries } = yield* readWholeTree(repo)
        const blobs = entries.filter(({ type }) => type === "blob").map((entry) => entry.path)
        assert.deepStrictEqual(blobs.toSorted(), names.toSorted())
      })
    ),

  "a tree with more entries than the limit is truncated and marked as truncated": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const names = Array.from({ length: contractLimits.entries + 1 }, (_, n) => `file-${n}`)
        const all = Object.fromEntries(names.map((name) => [name, ""]))
        const { [names[0]!]: _, ...fewer } = all
        const first = yield* pushFiles(author, repo, fewer)
        const whole = yield* readWholeTree(repo)
        assert.deepStrictEqual([whole.entries.length, whole.truncated], [contractLimits.entries, false])
        const second = yield* pushFiles(author, repo, all, { parents: [first] })
        const open = yield* publishRepo(author, publish, { [main]: second })
        const trees = [yield* readWholeTree(repo), Option.getOrThrow(yield* host.publicTree(open, null))]
        for (const { entries, truncated } of trees) {
          assert.isTrue(truncated)
          assert.isAtMost(entries.length, contractLimits.entries)
          assert.isAbove(entries.length, 0)
          for (const { path } of entries) assert.property(all, path)
        }
        // Omitted files can still be read, and a truncated tree has a stable revision.
        for (const name of names.slice(0, 3)) assert.strictEqual(yield* readText(repo, name), "")
        assert.isTrue(Option.isNone(yield* readTree(repo, trees[0]!.revision)))
      })
    ),

  "a tree omits entries with too long a path and is marked as truncated": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const part = "d".repeat(255)
        const longest = Array.from({ length: contractLimits.path / 256 }, () => part).join("/")
        yield* pushFiles(yield* newAuthor, repo, { a: "1", [`${longest}/b`]: "2", z: "3" })
        const { entries, truncated } = yield* readWholeTree(repo)
        assert.isTrue(truncated)
        const paths = new Set(entries.map(({ path }) => path))
        assert.isTrue(["a", "z", longest].every((path) => paths.has(path)))
        assert.isFalse(paths.has(`${longest}/b`))
      })
    ),

  "every path that git allows can be listed and read": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const names = [
          "with space/and  two",
          "ünï/çödé 🚀/日本語",
          "e\u0301 and \u00e9/e\u0301",
          "e\u0301 and \u00e9/\u00e9",
          `"quoted"/it's/back\\slash`,
          "100%/%20/#hash/?query&a=b;c",
          "-option/--all",
          ":(top)/*/[a]/$HOME/`x`/~",
          "tab\there",
          ".hidden/..x/...",
          "HEAD",
          "main"
        ]
        yield* pushFiles(yield* newAuthor, repo, Object.fromEntries(names.map((name) => [name, `in ${name}`])))
        const { entries } = yield* readWholeTree(repo)
        const blobs = entries.filter(({ type }) => type === "blob").map((entry) => entry.path)
        assert.deepStrictEqual(blobs.toSorted(), names.toSorted())
        for (const name of names) assert.strictEqual(yield* readText(repo, name), `in ${name}`)
      })
    ),

  "a tree is returned again only if it has changed since the known revision": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const empty = yield* readWholeTree(repo)
        assert.isTrue(Option.isNone(yield* readTree(repo, empty.revision)))
        const first = yield* pushFiles(author, repo, { a: "1" })
        const before = Option.getOrThrow(yield* readTree(repo, empty.revision))
        assert.deepStrictEqual(entryLines(before), ["blob a 1"])
        assert.isTrue(Option.isNone(yield* readTree(repo, before.revision)))
        assert.strictEqual((yield* readWholeTree(repo)).revision, before.revision)
        yield* pushFiles(author, repo, { a: "1", b: "22" }, { parents: [first] })
        const after = Option.getOrThrow(yield* readTree(repo, before.revision))
        assert.deepStrictEqual(entryLines(after), ["blob a 1", "blob b 2"])
        assert.isTrue(Option.isSome(yield* readTree(repo, before.revision)))
        assert.isTrue(Option.isSome(yield* readTree(repo, "never given")))
      })
    ),

  "a submodule is listed as a tree without entries": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const settings = '[submodule "sub"]\n\tpath = lib/sub\n\turl = https://example.com/sub\n'
        yield* pushFiles(yield* newAuthor, repo, { ".gitmodules": settings, "lib/sub": { submodule: unknownCommit } })
        const tree = yield* readWholeTree(repo)
        assert.deepStrictEqual(entryLines(tree), [`blob .gitmodules ${settings.length}`, "tree lib", "tree lib/sub"])
        assert.strictEqual(tree.entries.find((entry) => entry.path === "lib/sub")?.sha, unknownCommit)
      })
    ),

  "trees and files are read from the default branch": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const first = yield* pushFiles(author, repo, { a: "1" })
        yield* pushFiles(author, repo, { a: "other", b: "other" }, { branch: otherBranch, parents: [first] })
        assert.deepStrictEqual(entryLines(yield* readWholeTree(repo)), ["blob a 1"])
        assert.strictEqual(yield* readText(repo, "a"), "1")
        assert.strictEqual(yield* tagOf(host.readFile(repo, path("b"))), "RepoFileNotFound")
      })
    ),

  "the default branch is an existing branch if the repository has one": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const commit = yield* pushFiles(yield* newAuthor, repo, { a: "1" }, { branch: otherBranch })
        assert.deepStrictEqual(entryLines(yield* readWholeTree(repo)), ["blob a 1"])
        assert.strictEqual(yield* readText(repo, "a"), "1")
        assert.strictEqual(yield* tagOf(host.readFile(repo, path("b"))), "RepoFileNotFound")
        const found = yield* fetchBundle(repo, null)
        assert.deepStrictEqual([found.branch, found.commit], [otherBranch, commit])
        assert.strictEqual(Option.getOrThrow(yield* host.find(repo)).defaultBranch, otherBranch)
      })
    )
})
