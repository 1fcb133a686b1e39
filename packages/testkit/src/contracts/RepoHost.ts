/** What every host of repositories promises, as data: run over each of them, and over broken ones to see that it bites. */
import { type FileTree, RepoPath, type TreeLimits } from "@castellan/domain/repo/FileTree.ts"
import { BranchName, CommitId, firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { fileRead, RepoHost, type Right } from "@castellan/domain/repo/RepoHost.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { assert } from "@effect/vitest"
import { Effect, type Layer, Option, Result, type Scope, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { createHash } from "node:crypto"
import { holds, type Promises } from "./holds.ts"

/** What a path leads to. */
export type Content = string | Uint8Array | { readonly link: string } | { readonly submodule: CommitId }

/** Somebody with a repository of their own, who makes commits and exchanges them as the host's bundles. */
export interface Author {
  /** A commit with these files and no others. */
  readonly commit: (
    files: Readonly<Record<string, Content>>,
    parents?: ReadonlyArray<CommitId>
  ) => Effect.Effect<CommitId>
  /** Branches with all their commits, but those of `have`. */
  readonly bundle: (
    branches: Readonly<Record<string, CommitId>>,
    have?: ReadonlyArray<CommitId>
  ) => Effect.Effect<Uint8Array>
  /** Takes the commits of a bundle in, and tells where its branches stand; fails if it builds on what is not there. */
  readonly take: (bundle: Uint8Array) => Effect.Effect<Readonly<Record<string, CommitId>>, unknown>
  /** The files of a commit that is there, as text. */
  readonly files: (commit: CommitId) => Effect.Effect<Readonly<Record<string, string>>>
}

/** Puts the branches of a bundle into a repository below the host's `publicUrl`, for anyone to read. */
export type Publish<R = never> = (repo: Repo, bundle: Uint8Array) => Effect.Effect<void, unknown, R>

/** An author without any commits. */
export type NewAuthor = Effect.Effect<Author, never, Scope.Scope>

const main = firstBranch
const other = BranchName.make("other/branch")
const path = (text: string) => RepoPath.make(text)
const utf8 = (text: string) => new TextEncoder().encode(text)
const unknownCommit = CommitId.make("0123456789abcdef".repeat(3).slice(0, 40))

/** The id that git gives to a file of these bytes. */
const blobId = (bytes: Uint8Array) => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex")

const tagOf = <E extends { readonly _tag: string }, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => error._tag)

/** A repository nobody else has, gone when the promise is over. */
const named = <A, E, R>(use: (repo: Repo) => Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const host = yield* RepoHost
    const name = RepoName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
    const repo = new Repo({ owner: host.supports.owner, name })
    return yield* Effect.ensuring(Effect.scoped(use(repo)), Effect.ignore(host.remove(repo)))
  })

const made = <A, E, R>(use: (repo: Repo) => Effect.Effect<A, E, R>) =>
  named((repo) => Effect.flatMap(RepoHost, (host) => Effect.andThen(host.ensure(repo), use(repo))))

const push = Effect.fnUntraced(function* (repo: Repo, branch: BranchName, bundle: Uint8Array) {
  const host = yield* RepoHost
  // In pieces, so that nobody counts on its coming as one.
  const pieces = [bundle.subarray(0, 10), bundle.subarray(10, 10), bundle.subarray(10)]
  yield* host.push(repo, branch, Stream.fromIterable(pieces))
})

/** Puts files on a branch. */
const pushed = Effect.fnUntraced(function* (
  author: Author,
  repo: Repo,
  files: Readonly<Record<string, Content>>,
  { branch = main, parents = [] }: { readonly branch?: BranchName; readonly parents?: ReadonlyArray<CommitId> } = {}
) {
  const commit = yield* author.commit(files, parents)
  yield* push(repo, branch, yield* author.bundle({ [branch]: commit }))
  return commit
})

const treeOf = Effect.fnUntraced(function* (repo: Repo, known: string | null = null) {
  return yield* (yield* RepoHost).tree(repo, known)
})

const wholeTree = (repo: Repo) => Effect.map(treeOf(repo), Option.getOrThrow)

/** What a tree has, a line for each entry. */
const listed = ({ entries }: FileTree) =>
  entries.map(({ path, size, type }) => (size === undefined ? `${type} ${path}` : `${type} ${path} ${size}`)).toSorted()

const fileText = Effect.fnUntraced(function* (repo: Repo, file: string) {
  return Buffer.from(yield* (yield* RepoHost).readFile(repo, path(file))).toString()
})

/** Where a branch stands, and the bytes of its bundle. */
const fetched = Effect.fnUntraced(function* (
  repo: Repo,
  branch: BranchName | null,
  have: ReadonlyArray<CommitId> = [],
  right: Right = "service"
) {
  const found = Option.getOrThrow(yield* (yield* RepoHost).fetch(repo, branch, have, right))
  const pieces = Option.isSome(found.bundle) ? yield* Stream.runCollect(found.bundle.value) : undefined
  return { branch: found.branch, commit: found.commit, bundle: pieces && Uint8Array.from(Buffer.concat(pieces)) }
})

/** Where a branch stands. */
const standing = (repo: Repo, branch: BranchName | null) =>
  Effect.flatMap(RepoHost, (host) =>
    Effect.map(host.fetch(repo, branch, [], "service"), (found) => Option.getOrUndefined(found)?.commit)
  )

/** A repository that anyone may read, with these files on its default branch; empty if there are none. */
const published = Effect.fnUntraced(function* <R>(
  author: Author,
  publish: Publish<R>,
  branches: Readonly<Record<string, CommitId>>
) {
  const name = RepoName.make(`t-${SecureRandom.uuidV4Unsafe()}`)
  const repo = new Repo({ owner: RepoOwner.make("somebody"), name })
  yield* publish(repo, yield* author.bundle(branches))
  return repo
})

/** Limits that a host under this contract is given: low ones, so that a small tree is beyond them. */
export const contractLimits: TreeLimits = { entries: 4000, characters: 1024 * 1024, path: 4096 }

/** The promises, with authors who speak the host's bundles, and a way to repositories that anyone may read. */
export const promises = <R = never>(newAuthor: NewAuthor, publish: Publish<R>): Promises<R | RepoHost> => ({
  "a host's URL is one, and leads to each of its repositories": () =>
    Effect.gen(function* () {
      const { owner, publicUrl, url } = (yield* RepoHost).supports
      const repo = new Repo({ owner, name: RepoName.make("a.Name_") })
      for (const base of [url, publicUrl]) {
        assert.isFalse(base.endsWith("/"))
        const whole = new URL(RepoUrl.urlOf(base, repo)).href
        assert.deepStrictEqual(RepoUrl.parse(base, whole), Option.some(repo))
      }
    }),

  "a host's URLs hold no path of its server, and those of older versions name the same repositories": () =>
    Effect.gen(function* () {
      const { supports } = yield* RepoHost
      const repo = new Repo({ owner: supports.owner, name: RepoName.make("a.Name_") })
      const url = RepoUrl.urlOf(supports.url, repo)
      assert.notStrictEqual(new URL(url).protocol, "file:")
      for (const base of [supports.url, supports.formerUrl ?? supports.url]) {
        const given = RepoUrl.urlOf(base, repo)
        assert.deepStrictEqual(RepoUrl.at(supports, given), Option.some(repo))
        assert.strictEqual(RepoUrl.current(supports, given), url)
      }
    }),

  "a new repository is private and empty, and begins with the branch main": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const repository = yield* host.ensure(repo)
        assert.deepStrictEqual(repository.repo, repo)
        assert.deepStrictEqual([repository.defaultBranch, repository.isPrivate], [main, true])
        assert.deepStrictEqual((yield* wholeTree(repo)).entries, [])
      })
    ),

  "a repository that stands is given back untouched": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const first = yield* host.ensure(repo)
        const commit = yield* pushed(yield* newAuthor, repo, { kept: "here" })
        assert.deepStrictEqual(yield* host.ensure(repo), first)
        assert.strictEqual(yield* standing(repo, main), commit)
        assert.strictEqual(yield* fileText(repo, "kept"), "here")
      })
    ),

  "making a repository ten times at once makes one": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        // Whoever is done first uses it, while others are still at it.
        const first = Effect.andThen(
          host.ensure(repo),
          Effect.asSome(pushed(author, repo, { file: "1" }, { branch: main }))
        )
        const rest = Array.from({ length: 9 }, () => Effect.as(host.ensure(repo), Option.none<CommitId>()))
        const [commit] = yield* Effect.all([first, ...rest], { concurrency: "unbounded" })
        assert.strictEqual(yield* standing(repo, main), Option.getOrThrow(commit!))
      })
    ),

  "find gives the repository of a name, and none where there is none": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        assert.isTrue(Option.isNone(yield* host.find(repo)))
        const repository = yield* host.ensure(repo)
        assert.deepStrictEqual(yield* host.find(repo), Option.some(repository))
      })
    ),

  "names that differ in case alone are of one repository": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const loud = new Repo({ owner: repo.owner, name: RepoName.make(repo.name.toUpperCase()) })
        const commit = yield* pushed(yield* newAuthor, repo, { file: "1" })
        yield* host.ensure(loud)
        assert.isTrue(Option.isSome(yield* host.find(loud)))
        assert.strictEqual(yield* standing(loud, main), commit)
        yield* host.remove(loud)
        assert.isTrue(Option.isNone(yield* host.find(repo)))
      })
    ),

  "remove forgets a repository with its commits, and may be repeated": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        yield* pushed(yield* newAuthor, repo, { file: "1" })
        yield* host.remove(repo)
        yield* host.remove(repo)
        assert.isTrue(Option.isNone(yield* host.find(repo)))
        yield* host.ensure(repo)
        assert.isUndefined(yield* standing(repo, main))
        assert.deepStrictEqual((yield* wholeTree(repo)).entries, [])
      })
    ),

  "a repository that is not there is said to be, whatever is asked of it": () =>
    named(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const bundle = yield* author.bundle({ [main]: yield* author.commit({ file: "1" }) })
        assert.strictEqual(yield* tagOf(host.tree(repo, null)), "RepoNotFound")
        assert.strictEqual(yield* tagOf(host.tree(repo, "whatever")), "RepoNotFound")
        assert.strictEqual(yield* tagOf(host.readFile(repo, path("file"))), "RepoNotFound")
        assert.strictEqual(yield* tagOf(host.fetch(repo, null, [], "service")), "RepoNotFound")
        assert.strictEqual(yield* tagOf(host.fetch(repo, main, [], "service")), "RepoNotFound")
        assert.strictEqual(yield* tagOf(push(repo, main, bundle)), "RepoNotFound")
        assert.isTrue(Option.isNone(yield* host.find(repo)))
      })
    ),

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
    ),

  "a file is read to the byte": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const binary = Uint8Array.from({ length: 300_000 }, (_, n) => (n * 7919) % 256)
        const large = Uint8Array.from({ length: 2_000_000 }, (_, n) => (n >> 3) % 251)
        const files = { empty: new Uint8Array(), "a/binary": binary, large, lines: utf8("a\r\nb\n") }
        yield* pushed(yield* newAuthor, repo, files)
        for (const [name, bytes] of Object.entries(files)) {
          const read = yield* host.readFile(repo, path(name))
          assert.isTrue(Buffer.from(read).equals(Buffer.from(bytes)), name)
        }
      })
    ),

  "what is no file is not found": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const read = (file: string) => tagOf(host.readFile(repo, path(file)))
        assert.strictEqual(yield* read("file"), "RepoFileNotFound")
        yield* pushed(yield* newAuthor, repo, {
          "directory/file": "1",
          ".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = https://example.com/sub\n',
          sub: { submodule: unknownCommit }
        })
        for (const file of ["nothing", "directory", "directory/nothing", "directory/file/below", "sub", "sub/file"]) {
          assert.strictEqual(yield* read(file), "RepoFileNotFound", file)
        }
      })
    ),

  "a link is read as the file of the repository it leads to, and leads nowhere else": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        yield* pushed(yield* newAuthor, repo, {
          "a/file": "inside",
          "a/beside": { link: "file" },
          "b/up": { link: "../a/file" },
          "b/nowhere": { link: "nothing" },
          "b/directory": { link: "../a" },
          "b/absolute": { link: "/etc/hosts" },
          "b/outside": { link: "../../../../../../../../../../etc/hosts" },
          "b/itself": { link: "itself" }
        })
        for (const file of ["a/beside", "b/up"]) assert.strictEqual(yield* fileText(repo, file), "inside")
        for (const file of ["b/nowhere", "b/directory", "b/absolute", "b/outside", "b/itself"]) {
          assert.strictEqual(yield* tagOf(host.readFile(repo, path(file))), "RepoFileNotFound", file)
        }
      })
    ),

  "a file is read up to the size that is said, and refused beyond": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const bytes = new Uint8Array(fileRead + 1)
        yield* pushed(yield* newAuthor, repo, { fits: bytes.subarray(1), not: bytes })
        assert.strictEqual((yield* host.readFile(repo, path("fits"))).length, fileRead)
        assert.strictEqual(yield* tagOf(host.readFile(repo, path("not"))), "RepoFileTooLarge")
      })
    ),

  "a branch is fetched with all its commits, the default one if none is named": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const second = yield* pushed(author, repo, { a: "2" }, { parents: [first] })
        const aside = yield* pushed(author, repo, { a: "1", b: "1" }, { branch: other, parents: [first] })
        for (const [asked, branch, commit] of [
          [null, main, second],
          [main, main, second],
          [other, other, aside]
        ] as const) {
          const reader = yield* newAuthor
          const found = yield* fetched(repo, asked)
          assert.deepStrictEqual([found.branch, found.commit], [branch, commit])
          assert.deepStrictEqual(yield* reader.take(found.bundle!), { [branch]: commit })
          assert.deepStrictEqual(yield* reader.files(first), { a: "1" })
          assert.deepStrictEqual(yield* reader.files(commit), branch === main ? { a: "2" } : { a: "1", b: "1" })
        }
      })
    ),

  "there is nothing to fetch of an empty repository, or of a branch that nobody made": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        for (const branch of [null, main]) assert.isTrue(Option.isNone(yield* host.fetch(repo, branch, [], "service")))
        const commit = yield* pushed(author, repo, { a: "1" })
        yield* pushed(author, repo, { a: "2" }, { branch: other, parents: [commit] })
        // Neither the beginning of a branch's name is a branch, nor its end.
        for (const branch of ["none", "other", "branch", "mai", "heads/main"].map((name) => BranchName.make(name))) {
          assert.isTrue(Option.isNone(yield* host.fetch(repo, branch, [commit], "service")), branch)
        }
      })
    ),

  "a bundle leaves out what is there already, and ids nobody knows don't matter": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1", b: "1" })
        const reader = yield* newAuthor
        yield* reader.take((yield* fetched(repo, main)).bundle!)
        const second = yield* pushed(author, repo, { a: "2", b: "1" }, { parents: [first] })
        const { bundle, commit } = yield* fetched(repo, main, [unknownCommit, first])
        assert.strictEqual(commit, second)
        // Whoever has not the first can't read it; whoever has can.
        assert.isTrue(Result.isFailure(yield* Effect.result((yield* newAuthor).take(bundle!))))
        assert.deepStrictEqual(yield* reader.take(bundle!), { [main]: second })
        assert.deepStrictEqual(yield* reader.files(second), { a: "2", b: "1" })
        const whole = yield* fetched(repo, main, [unknownCommit])
        assert.deepStrictEqual(yield* (yield* newAuthor).take(whole.bundle!), { [main]: second })
      })
    ),

  "there is no bundle when everything is there": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        assert.deepStrictEqual(yield* fetched(repo, main, [first]), { branch: main, commit: first, bundle: undefined })
      })
    ),

  "a bundle can be read until the scope closes, whatever becomes of the branch": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const found = Option.getOrThrow(yield* host.fetch(repo, null, [], "service"))
        yield* pushed(author, repo, { a: "2" }, { parents: [first] })
        yield* host.remove(repo)
        const bundle = Buffer.concat(yield* Stream.runCollect(Option.getOrThrow(found.bundle)))
        assert.deepStrictEqual(yield* (yield* newAuthor).take(bundle), { [main]: first })
      })
    ),

  "a repository that is public is fetched in the right of anyone, as the service fetches its own": () =>
    Effect.scoped(
      Effect.gen(function* () {
        const author = yield* newAuthor
        const first = yield* author.commit({ a: "1" })
        const second = yield* author.commit({ a: "2" }, [first])
        const aside = yield* author.commit({ a: "aside" }, [first])
        const repo = yield* published(author, publish, { [main]: second, [other]: aside })
        const reader = yield* newAuthor
        const whole = yield* fetched(repo, null, [], "anyone")
        assert.deepStrictEqual([whole.branch, whole.commit], [main, second])
        assert.deepStrictEqual(yield* reader.take(whole.bundle!), { [main]: second })
        assert.deepStrictEqual(yield* reader.files(second), { a: "2" })
        const rest = yield* fetched(repo, other, [unknownCommit, second], "anyone")
        assert.deepStrictEqual([rest.branch, rest.commit], [other, aside])
        assert.isTrue(Result.isFailure(yield* Effect.result((yield* newAuthor).take(rest.bundle!))))
        assert.deepStrictEqual(yield* reader.take(rest.bundle!), { [other]: aside })
        assert.isUndefined((yield* fetched(repo, main, [second], "anyone")).bundle)
        const host = yield* RepoHost
        assert.isTrue(Option.isNone(yield* host.fetch(repo, BranchName.make("none"), [], "anyone")))
      })
    ),

  "a repository that is private, or not there, is not found in the right of anyone": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const commit = yield* pushed(yield* newAuthor, repo, { secret: "1" })
        const nowhere = new Repo({ owner: repo.owner, name: RepoName.make(`${repo.name}-not`) })
        for (const one of [repo, nowhere]) {
          for (const branch of [null, main]) {
            assert.strictEqual(yield* tagOf(host.fetch(one, branch, [commit], "anyone")), "RepoNotFound")
          }
        }
      })
    ),

  "a repository that is public is read in the right of anyone, and a private one is not": () =>
    made(
      Effect.fnUntraced(function* (mine) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const commit = yield* author.commit({ "d/a": "1", b: { link: "d/a" } })
        const repo = yield* published(author, publish, { [main]: commit })
        assert.isTrue(yield* host.isPublic(repo))
        const tree = Option.getOrThrow(yield* host.publicTree(repo, null))
        assert.deepStrictEqual(tree.entries.map((entry) => `${entry.type} ${entry.path}`).toSorted(), [
          "blob b",
          "blob d/a",
          "tree d"
        ])
        assert.isTrue(Option.isNone(yield* host.publicTree(repo, tree.revision)))
        for (const file of ["d/a", "b"]) {
          assert.strictEqual(Buffer.from(yield* host.readPublicFile(repo, path(file))).toString(), "1")
        }
        for (const file of ["d", "none"]) {
          assert.strictEqual(yield* tagOf(host.readPublicFile(repo, path(file))), "RepoFileNotFound")
        }
        yield* pushed(author, mine, { secret: "1" })
        const nowhere = new Repo({ owner: repo.owner, name: RepoName.make(`${repo.name}-not`) })
        for (const one of [mine, nowhere]) {
          assert.isFalse(yield* host.isPublic(one))
          assert.strictEqual(yield* tagOf(host.publicTree(one, null)), "RepoNotFound")
          assert.strictEqual(yield* tagOf(host.readPublicFile(one, path("secret"))), "RepoNotFound")
        }
      })
    ),

  "a push makes a branch, and moves it forward": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        assert.strictEqual(yield* standing(repo, main), first)
        // What the host has need not be sent again.
        const left = yield* author.commit({ a: "1", left: "1" }, [first])
        const right = yield* author.commit({ a: "1", right: "1" }, [first])
        const merged = yield* author.commit({ a: "1", left: "1", right: "1" }, [left, right])
        yield* push(repo, main, yield* author.bundle({ [main]: merged }, [first]))
        assert.strictEqual(yield* standing(repo, main), merged)
        assert.deepStrictEqual(listed(yield* wholeTree(repo)), ["blob a 1", "blob left 1", "blob right 1"])
        // Nor if another branch has it.
        const aside = yield* author.commit({ a: "aside" }, [merged])
        yield* push(repo, other, yield* author.bundle({ [other]: aside }, [merged]))
        assert.deepStrictEqual([yield* standing(repo, main), yield* standing(repo, other)], [merged, aside])
      })
    ),

  "a push that the branch's commits are not in is rejected, and changes nothing": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const second = yield* pushed(author, repo, { a: "2" }, { parents: [first] })
        const aside = yield* author.commit({ a: "3" }, [first])
        const unrelated = yield* author.commit({ a: "4" })
        for (const commit of [aside, unrelated, first]) {
          const rejected = yield* Effect.flip(push(repo, main, yield* author.bundle({ [main]: commit })))
          assert.deepInclude(rejected, { _tag: "PushRejected", repo, branch: main })
          assert.strictEqual(yield* standing(repo, main), second)
        }
      })
    ),

  "pushing the commit that a branch stands at changes nothing": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const { revision } = yield* wholeTree(repo)
        yield* push(repo, main, yield* author.bundle({ [main]: first }))
        assert.strictEqual(yield* standing(repo, main), first)
        assert.isTrue(Option.isNone(yield* treeOf(repo, revision)))
      })
    ),

  "of many that push at once one is first, and the others are told so": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const race = Effect.fnUntraced(function* (branch: BranchName, parents: ReadonlyArray<CommitId>) {
          const commits = yield* Effect.forEach(["2", "3", "4", "5"], (a) => author.commit({ a }, parents))
          const bundles = yield* Effect.forEach(commits, (commit) => author.bundle({ [branch]: commit }))
          const results = yield* Effect.forEach(bundles, (bundle) => Effect.result(push(repo, branch, bundle)), {
            concurrency: "unbounded"
          })
          const won = commits.filter((_, n) => Result.isSuccess(results[n]!))
          const told = results.flatMap((result) => (Result.isFailure(result) ? [result.failure._tag] : []))
          assert.deepStrictEqual(told, ["PushRejected", "PushRejected", "PushRejected"])
          assert.deepStrictEqual([yield* standing(repo, branch)], won)
        })
        yield* race(main, [first])
        yield* race(other, [])
      })
    ),

  "a push moves one branch, whatever else the bundle has": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const second = yield* author.commit({ a: "2" }, [first])
        yield* push(repo, other, yield* author.bundle({ [main]: second, [other]: second, third: second }))
        assert.strictEqual(yield* standing(repo, other), second)
        assert.strictEqual(yield* standing(repo, main), first)
        assert.isUndefined(yield* standing(repo, BranchName.make("third")))
      })
    ),

  "what is no bundle, is damaged, has not the branch or not what it builds on, is refused and changes nothing": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const author = yield* newAuthor
        const first = yield* pushed(author, repo, { a: "1" })
        const missing = yield* author.commit({ a: "1", b: "never pushed" }, [first])
        const second = yield* author.commit({ a: "2", b: "2" }, [missing])
        const whole = yield* author.bundle({ [main]: second })
        const refused = {
          nothing: new Uint8Array(),
          garbage: utf8("# v2 git bundle\nnot at all\n\nPACK"),
          "a half": whole.subarray(0, whole.length / 2),
          "all but the last byte": whole.subarray(0, -1),
          "without the branch": yield* author.bundle({ [other]: second }),
          "on a commit that is not there": yield* author.bundle({ [main]: second }, [missing])
        }
        for (const [what, bundle] of Object.entries(refused)) {
          assert.strictEqual(yield* tagOf(push(repo, main, bundle)), "BundleRefused", what)
          assert.strictEqual(yield* standing(repo, main), first, what)
        }
        yield* push(repo, main, whole)
        assert.strictEqual(yield* standing(repo, main), second)
      })
    ),

  "a bundle that breaks off fails with its own error, and changes nothing": () =>
    made(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const author = yield* newAuthor
        const bundle = yield* author.bundle({ [main]: yield* author.commit({ a: "1" }) })
        const broken = Stream.concat(Stream.make(bundle), Stream.fail({ _tag: "BrokenOff" as const }))
        assert.strictEqual(yield* tagOf(host.push(repo, main, broken)), "BrokenOff")
        assert.isUndefined(yield* standing(repo, main))
      })
    )
})

/** Holds a host to its promises. */
export const contract = <R, E>(
  subject: string,
  layer: Layer.Layer<R | RepoHost, E>,
  author: NewAuthor,
  publish: Publish<R>
) => holds("RepoHost", subject, layer, promises(author, publish))
