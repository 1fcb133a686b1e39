import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import { createHash } from "node:crypto"
import type { Clauses } from "../contract.ts"
import type { Publish, NewAuthor } from "./Author.ts"
import { contractLimits } from "./contractLimits.ts"
import {
  main,
  other,
  path,
  utf8,
  unknownCommit,
  tagOf,
  made,
  pushed,
  treeOf,
  wholeTree,
  listed,
  fileText,
  fetched,
  published
} from "./fixtures.ts"

/** The id that git gives to a file of these bytes. */
const blobId = (bytes: Uint8Array) => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex")

export const trees = <R>(newAuthor: NewAuthor, publish: Publish<R>): Clauses<R | RepoHost> => ({
  "a tree has every file and every directory, with git's ids, and the size of what is a blob": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        yield* pushed(yield* newAuthor, repo, { "b.txt": "12345", "a/deep/er": "", "a/b": "é", z: { link: "b.txt" } })
        const tree = yield* wholeTree(repo)
        assert.deepStrictEqual(listed(tree), [
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

  "a tree is whole, however many files it has": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const names = Array.from({ length: 3100 }, (_, n) => `${n % 7}/directory-${n % 61}/file-${n}.txt`)
        yield* pushed(yield* newAuthor, repo, Object.fromEntries(names.map((name) => [name, name])))
        const { entries } = yield* wholeTree(repo)
        const blobs = entries.filter(({ type }) => type === "blob").map((entry) => entry.path)
        assert.deepStrictEqual(blobs.toSorted(), names.toSorted())
      })
    ),

  "a tree that has more entries than are read is cut, and says so": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const names = Array.from({ length: contractLimits.entries + 1 }, (_, n) => `file-${n}`)
        const all = Object.fromEntries(names.map((name) => [name, ""]))
        const { [names[0]!]: _, ...fewer } = all
        const first = yield* pushed(author, repo, fewer)
        const whole = yield* wholeTree(repo)
        assert.deepStrictEqual([whole.entries.length, whole.truncated], [contractLimits.entries, false])
        const second = yield* pushed(author, repo, all, { parents: [first] })
        const open = yield* published(author, publish, { [main]: second })
        const trees = [yield* wholeTree(repo), Option.getOrThrow(yield* host.publicTree(open, null))]
        for (const { entries, truncated } of trees) {
          assert.isTrue(truncated)
          assert.isAtMost(entries.length, contractLimits.entries)
          assert.isAbove(entries.length, 0)
          for (const { path } of entries) assert.property(all, path)
        }
        // What is left out can be read, and what is cut is known again.
        for (const name of names.slice(0, 3)) assert.strictEqual(yield* fileText(repo, name), "")
        assert.isTrue(Option.isNone(yield* treeOf(repo, trees[0]!.revision)))
      })
    ),

  "an entry whose path is too long is left out of the tree, which says so": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const part = "d".repeat(255)
        const longest = Array.from({ length: contractLimits.path / 256 }, () => part).join("/")
        yield* pushed(yield* newAuthor, repo, { a: "1", [`${longest}/b`]: "2", z: "3" })
        const { entries, truncated } = yield* wholeTree(repo)
        assert.isTrue(truncated)
        const paths = new Set(entries.map(({ path }) => path))
        assert.isTrue(["a", "z", longest].every((path) => paths.has(path)))
        assert.isFalse(paths.has(`${longest}/b`))
      })
    ),

  "a path is whatever git lets it be, in a tree and for reading": () =>
    made(
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
        yield* pushed(yield* newAuthor, repo, Object.fromEntries(names.map((name) => [name, `in ${name}`])))
        const { entries } = yield* wholeTree(repo)
        const blobs = entries.filter(({ type }) => type === "blob").map((entry) => entry.path)
        assert.deepStrictEqual(blobs.toSorted(), names.toSorted())
        for (const name of names) assert.strictEqual(yield* fileText(repo, name), `in ${name}`)
      })
    ),

  "a tree is given again only when something changed": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const empty = yield* wholeTree(repo)
        assert.isTrue(Option.isNone(yield* treeOf(repo, empty.revision)))
        const first = yield* pushed(author, repo, { a: "1" })
        const before = Option.getOrThrow(yield* treeOf(repo, empty.revision))
        assert.deepStrictEqual(listed(before), ["blob a 1"])
        assert.isTrue(Option.isNone(yield* treeOf(repo, before.revision)))
        assert.strictEqual((yield* wholeTree(repo)).revision, before.revision)
        yield* pushed(author, repo, { a: "1", b: "22" }, { parents: [first] })
        const after = Option.getOrThrow(yield* treeOf(repo, before.revision))
        assert.deepStrictEqual(listed(after), ["blob a 1", "blob b 2"])
        assert.isTrue(Option.isSome(yield* treeOf(repo, before.revision)))
        assert.isTrue(Option.isSome(yield* treeOf(repo, "never given")))
      })
    ),

  "a submodule is a tree without entries": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const settings = '[submodule "sub"]\n\tpath = lib/sub\n\turl = https://example.com/sub\n'
        yield* pushed(yield* newAuthor, repo, { ".gitmodules": settings, "lib/sub": { submodule: unknownCommit } })
        const tree = yield* wholeTree(repo)
        assert.deepStrictEqual(listed(tree), [`blob .gitmodules ${settings.length}`, "tree lib", "tree lib/sub"])
        assert.strictEqual(tree.entries.find((entry) => entry.path === "lib/sub")?.sha, unknownCommit)
      })
    ),

  "what is read is the default branch": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        yield* pushed(author, repo, { a: "other", b: "other" }, { branch: other, parents: [first] })
        assert.deepStrictEqual(listed(yield* wholeTree(repo)), ["blob a 1"])
        assert.strictEqual(yield* fileText(repo, "a"), "1")
        assert.strictEqual(yield* tagOf(host.readFile(repo, path("b"))), "RepoFileNotFound")
      })
    ),

  "the default branch is one that exists, once any branch does": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const commit = yield* pushed(yield* newAuthor, repo, { a: "1" }, { branch: other })
        assert.deepStrictEqual(listed(yield* wholeTree(repo)), ["blob a 1"])
        assert.strictEqual(yield* fileText(repo, "a"), "1")
        assert.strictEqual(yield* tagOf(host.readFile(repo, path("b"))), "RepoFileNotFound")
        const found = yield* fetched(repo, null)
        assert.deepStrictEqual([found.branch, found.commit], [other, commit])
        assert.strictEqual(Option.getOrThrow(yield* host.find(repo)).defaultBranch, other)
      })
    )
})
