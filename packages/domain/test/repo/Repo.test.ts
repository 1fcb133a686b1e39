import { RepoPath } from "@castellan/domain/repo/FileTree.ts"
import { BranchName, CommitId, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import * as RepoUrl from "@castellan/domain/repo/RepoUrl.ts"
import { assert, describe, it } from "@effect/vitest"
import { Option, Schema } from "effect"
import * as fc from "fast-check"

const isPath = Schema.is(RepoPath)
const isBranch = Schema.is(BranchName)
const isOwner = Schema.is(RepoOwner)
const isName = Schema.is(RepoName)
const isCommit = Schema.is(CommitId)

/** Texts with characters that often break such patterns, and arbitrary ones. */
const text = fc.oneof(
  fc.string({
    unit: fc.constantFrom("a", "Z", "0", ".", "..", "/", "-", "_", "@", "{", "~", ":", "\0", " ", "\n", "é")
  }),
  fc.string({ unit: "binary" })
)

describe("A path in a repository", () => {
  it("never leads out of the repository, is never absolute, and has no NUL", () =>
    fc.assert(
      fc.property(text, (path) => {
        const parts = path.split("/")
        const legal = parts.every((part) => part !== "" && part !== "." && part !== "..") && !path.includes("\0")
        assert.strictEqual(isPath(path), legal && path.length <= 4096)
      }),
      { numRuns: 2000 }
    ))

  it("may have names such as `...`, line breaks and any alphabet", () => {
    for (const path of ["...", "..a/b..", ".git", "a\nb", "ü/字", "-a", " ", "a".repeat(4096)]) {
      assert.isTrue(isPath(path), path)
    }
    for (const path of ["a".repeat(4097), "a\n/..", "..\n/..", "a/../b", "./a"]) assert.isFalse(isPath(path), path)
  })

  it("is validated in linear time", () => {
    for (const path of ["a/".repeat(100_000), "../".repeat(100_000), ".".repeat(100_000), `${"a/".repeat(2000)}\0`]) {
      const before = performance.now()
      isPath(path)
      assert.isBelow(performance.now() - before, 200)
    }
  })
})

describe("Names of repositories", () => {
  it("can't be mistaken for an option, a path or another program's syntax", () =>
    fc.assert(
      fc.property(text, (name) => {
        if (isOwner(name)) assert.match(name, /^[A-Za-z0-9][A-Za-z0-9-]{0,38}$/)
        if (isName(name)) {
          assert.match(name, /^[A-Za-z0-9_.-]{1,100}$/)
          assert.notMatch(name, /^\.\.?$|\.git$/i)
        }
        if (isBranch(name)) {
          assert.notMatch(name, /^[-/.]|\.\.|\/\/|@\{|[\0-\x20\x7f ~^:?*[\\]|\.lock$|[/.]$/)
        }
        if (isCommit(name)) assert.match(name, /^(?:[0-9a-f]{40}|[0-9a-f]{64})$/)
      }),
      { numRuns: 2000 }
    ))

  it("can't end with a line break", () => {
    assert.isFalse(isOwner("castellan\n"))
    assert.isFalse(isName("name\n"))
    assert.isFalse(isBranch("main\n"))
    assert.isFalse(isCommit(`${"0".repeat(40)}\n`))
    assert.isFalse(isPath("a\0"))
  })

  it("accept everything that git and the host allow", () => {
    for (const name of ["a", ".github", "-a", "a.b_c-D", "x".repeat(100)]) assert.isTrue(isName(name), name)
    for (const name of ["", ".", "..", "a.git", "a/b", "ü", "x".repeat(101)]) assert.isFalse(isName(name), name)
    for (const name of ["main", "feature/x", "ü", "a@b", "v1.0"]) assert.isTrue(isBranch(name), name)
    for (const name of ["", "@", "-x", "a..b", "a/.b", "a.lock", "a.lock/b", "x".repeat(201)]) {
      assert.isFalse(isBranch(name), name)
    }
  })
})

const github = "https://github.com"
const parsed = (url: string, base = github) =>
  Option.getOrUndefined(Option.map(RepoUrl.parse(base, url), ({ name, owner }) => `${owner}/${name}`))

describe("The URL of a repository", () => {
  it("names the repository, with or without .git, in any case of the host", () => {
    assert.strictEqual(parsed("https://github.com/some-one/Some.Thing"), "some-one/Some.Thing")
    assert.strictEqual(parsed("https://github.com/some-one/thing.git"), "some-one/thing")
    assert.strictEqual(parsed("HTTPS://GitHub.COM/some-one/thing"), "some-one/thing")
    assert.strictEqual(parsed("https://git.example.org/ghe/a/b", "https://git.example.org/ghe"), "a/b")
  })

  it("is rejected with another scheme, host or port, credentials, a query, a fragment or a longer path", () => {
    for (const url of [
      "http://github.com/a/b",
      "ssh://github.com/a/b",
      "git@github.com:a/b",
      "https://github.com.evil.example/a/b",
      "https://github.com:8443/a/b",
      "https://evil.example/github.com/a/b",
      "https://user@github.com/a/b",
      "https://user:word@github.com/a/b",
      "https://github.com@evil.example/a/b",
      "https://github.com/a/b?ref=main",
      "https://github.com/a/b#readme",
      "https://github.com/a/b/tree/main",
      "https://github.com/a/b/",
      "https://github.com/a",
      "https://github.com/a/",
      "https://github.com//a/b",
      "https://github.com/a/..",
      "https://github.com/a/../b",
      "https://github.com/a/%2e%2e",
      "https://github.com/a/b.git.git",
      "https://github.com/a/.git",
      "https://github.com/-a/b",
      "https://github.com/a/b\n",
      " https://github.com/a/b",
      "https://github.com\\a\\b",
      ""
    ]) {
      assert.isUndefined(parsed(url), url)
    }
  })

  it("is parsed to the repository from which it was made", () => {
    const owner = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9-]{0,38}$/)
    const name = fc.stringMatching(/^[A-Za-z0-9_.-]{1,100}$/).filter((one) => isName(one))
    fc.assert(
      fc.property(owner, name, (owner, name) => {
        const repo = new Repo({ owner: RepoOwner.make(owner), name: RepoName.make(name) })
        assert.deepStrictEqual(RepoUrl.parse(github, RepoUrl.urlOf(github, repo)), Option.some(repo))
      })
    )
  })
})
