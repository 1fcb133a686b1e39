import * as MemoryGit from "../src/fakes/repo/MemoryGit.ts"
import { CommitId } from "@castellan/domain/repo/Repo.ts"
import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"

const files = (texts: Record<string, string>): MemoryGit.Files =>
  new Map(Object.entries(texts).map(([path, text]) => [path, MemoryGit.fileOf(Buffer.from(text))]))

const texts = (files: MemoryGit.Files) =>
  Object.fromEntries(Array.from(files, ([path, { bytes }]) => [path, Buffer.from(bytes).toString()]))

/** Makes commits of files on parents, which are given by their index. */
const history = (
  ...made: ReadonlyArray<readonly [files: Record<string, string>, ...parents: ReadonlyArray<number>]>
) => {
  const ids: Array<CommitId> = []
  const commits = new Map<CommitId, MemoryGit.MemoryCommit>()
  for (const [n, [content, ...parents]] of made.entries()) {
    const commit = MemoryGit.commitOf({
      files: files(content),
      parents: parents.map((parent) => ids[parent]!),
      message: `commit ${n}`
    })
    commits.set(commit.id, commit)
    ids.push(commit.id)
  }
  return { commits, ids }
}

describe("Commits in memory", () => {
  it("have the tree ids that git computes", () => {
    const submodule = "0123456789".repeat(4)
    const commit = MemoryGit.commitOf({
      message: "x",
      parents: [],
      files: new Map([
        ["a.txt", MemoryGit.fileOf(Buffer.from("1"))],
        ["a/b/c", MemoryGit.fileOf(Buffer.from("2"))],
        ["a-b", MemoryGit.fileOf(Buffer.from("3"))],
        ["l", MemoryGit.fileOf(Buffer.from("a.txt"), "link")],
        ["sub", MemoryGit.fileOf(Buffer.from(submodule), "submodule")]
      ])
    })
    assert.strictEqual(commit.tree, "20bd02110b616b4f3e3217a13463a5a0009e437c")
    assert.deepStrictEqual(
      MemoryGit.entriesOf(commit).map(({ path, sha, type }) => `${type} ${sha.slice(0, 8)} ${path}`),
      [
        "blob e440e5c8 a-b",
        "blob 56a6051c a.txt",
        "tree bdf345a0 a",
        "tree 45c906fe a/b",
        "blob d8263ee9 a/b/c",
        "blob 8d14cbf9 l",
        "tree 01234567 sub"
      ]
    )
  })

  it("have an id that depends on their content and parents", () => {
    const { commits, ids } = history([{ a: "1" }], [{ a: "1" }, 0], [{ a: "1" }, 0], [{ a: "2" }, 0])
    assert.strictEqual(new Set(ids).size, 4)
    assert.strictEqual(commits.get(ids[0]!)!.tree, commits.get(ids[1]!)!.tree)
    assert.notStrictEqual(commits.get(ids[0]!)!.tree, commits.get(ids[3]!)!.tree)
  })

  it("know their ancestors and their merge base", () => {
    // 0 - 1 - 3 - 5 and 0 - 2 - 4 - 5; 6 is unrelated.
    const { commits, ids } = history([{}], [{}, 0], [{}, 0], [{}, 1], [{}, 2], [{}, 3, 4], [{}])
    const at = (n: number) => ids[n]!
    assert.deepStrictEqual([...MemoryGit.ancestors(commits, at(3))], [at(3), at(1), at(0)])
    assert.isTrue(MemoryGit.isAncestor(commits, at(2), at(5)))
    assert.isTrue(MemoryGit.isAncestor(commits, at(5), at(5)))
    assert.isFalse(MemoryGit.isAncestor(commits, at(5), at(2)))
    assert.deepStrictEqual(MemoryGit.mergeBase(commits, at(3), at(4)), Option.some(at(0)))
    assert.deepStrictEqual(MemoryGit.mergeBase(commits, at(5), at(4)), Option.some(at(4)))
    assert.isTrue(Option.isNone(MemoryGit.mergeBase(commits, at(5), at(6))))
  })

  it("merge file by file, with a conflict where both sides changed a file differently", () => {
    const base = {
      same: "1",
      ours: "1",
      theirs: "1",
      both: "1",
      conflict: "1",
      oursGone: "1",
      theirsGone: "1",
      torn: "1"
    }
    const ours = { same: "1", ours: "2", theirs: "1", both: "3", conflict: "4", theirsGone: "1", new: "n", torn: "2" }
    const theirs = { same: "1", ours: "1", theirs: "2", both: "3", conflict: "5", oursGone: "1", "new/er": "n" }
    const { commits, ids } = history([base], [ours, 0], [theirs, 0])
    const merged = MemoryGit.merge(commits, ids[1]!, ids[2]!)
    assert.deepStrictEqual(merged.conflicts, ["conflict", "new/er", "torn"])
    assert.deepStrictEqual(texts(merged.files), {
      same: "1",
      ours: "2",
      theirs: "2",
      both: "3",
      conflict: "4",
      new: "n",
      torn: "2",
      "new/er": "n"
    })
    assert.deepStrictEqual(MemoryGit.merge(commits, ids[0]!, ids[1]!), { files: files(ours), conflicts: [] })
  })

  it("are transferred in bundles without the commits that the receiver has", () => {
    const { commits, ids } = history([{ a: "1" }], [{ a: "2", b: "\0\xff" }, 0], [{ a: "3" }, 0], [{ a: "4" }, 1, 2])
    const tip = ids[3]!
    const whole = Option.getOrThrow(MemoryGit.bundleOf(commits, "main", tip))
    const read = Option.getOrThrow(MemoryGit.decode(MemoryGit.encode(whole)))
    assert.deepStrictEqual(read.branches, { main: tip })
    const arrived = Option.getOrThrow(MemoryGit.unbundled(new Map(), read))
    assert.deepStrictEqual(new Set(arrived.keys()), new Set(ids))
    assert.deepStrictEqual(texts(arrived.get(ids[1]!)!.files), { a: "2", b: "\0\xff" })
    const rest = Option.getOrThrow(MemoryGit.bundleOf(commits, "main", tip, [ids[1]!, CommitId.make("0".repeat(40))]))
    assert.deepStrictEqual(rest.commits.map(({ id }) => id).toSorted(), [ids[2]!, tip].toSorted())
    assert.isTrue(Option.isNone(MemoryGit.unbundled(new Map(), rest)))
    assert.isTrue(Option.isNone(MemoryGit.bundleOf(commits, "main", ids[1]!, [tip])))
    for (const bytes of ["", "{}", "PACK"]) assert.isTrue(Option.isNone(MemoryGit.decode(Buffer.from(bytes))))
    const forged = MemoryGit.encode(whole).toString().replace("commit 0", "another")
    const unlike = Option.getOrThrow(MemoryGit.decode(Buffer.from(forged)))
    assert.isTrue(Option.isNone(MemoryGit.unbundled(new Map(), unlike)))
  })
})
