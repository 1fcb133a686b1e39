import { page } from "@castellan/adapters/sandbox/Listing.ts"
import type { ListingPage } from "@castellan/domain/sandbox/SandboxFile.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Stream } from "effect"

const first: ListingPage = { depth: 64, limit: 1000 }

const record = (
  path: string,
  type = "f",
  [size = "0", time = "0.0", mode = "644", target = ""] = new Array<string>()
) => [path, type, size, time, mode, target].map((field) => `${field}\0`).join("")

/** Prints the entries of a tree as `find` does. The tree maps directories to names; a directory's name ends in `/`. */
const printing = (tree: Readonly<Record<string, ReadonlyArray<string>>>, chunk = 16 * 1024) => {
  const requested: Array<ReadonlyArray<string>> = []
  const read = (directories: ReadonlyArray<string>) => {
    requested.push(directories)
    const records = directories.flatMap((directory) =>
      (tree[directory.slice(2)] ?? []).map((name) => {
        const path = `${directory === "./" ? "./" : `${directory}/`}${name.replace(/\/$/, "")}`
        return record(path, name.endsWith("/") ? "d" : "f")
      })
    )
    const bytes = Buffer.from(records.join(""))
    return Stream.fromIterable(
      Array.from({ length: Math.ceil(bytes.length / chunk) }, (_, n) => bytes.subarray(n * chunk, (n + 1) * chunk))
    )
  }
  return { requested, read }
}

/** Repeats a chunk for ever. Returns how many chunks were read in the end. */
const forEver = (chunk: (n: number) => string) => {
  let taken = 0
  const read = () => Stream.fromEffectRepeat(Effect.sync(() => Buffer.from(chunk(taken++))))
  return { read, taken: () => taken }
}

const refused = <E>(read: (directories: ReadonlyArray<string>) => Stream.Stream<Uint8Array, E>) =>
  Effect.map(Effect.flip(page("listFiles", read, first)), (error) => (error as { readonly fault?: string }).fault)

describe("A page of a listing", () => {
  it.effect("clamps a modification time or size that is out of range", () =>
    Effect.gen(function* () {
      const rows = [
        ["far", "9223372036854775807", "9223372036854775807.0"],
        ["past", "-1", "-9223372036854775808.0"],
        ["strange", "x", "nan"],
        ["usual", "3", "1700000000.25"],
        // As find prints one and a half seconds before 1970.
        ["within", "3", "-2.5000000000"]
      ]
      const printed = Buffer.from(rows.map(([name, ...numbers]) => record(`./${name}`, "f", numbers)).join(""))
      const { files } = yield* page("listFiles", () => Stream.make(printed), first)
      assert.deepStrictEqual(
        files.map(({ modifiedAt, size }) => [size, new Date(modifiedAt.epochMilliseconds).toISOString()]),
        [
          [Number.MAX_SAFE_INTEGER, "9999-12-31T23:59:59.999Z"],
          [0, "0000-01-01T00:00:00.000Z"],
          [0, "1970-01-01T00:00:00.000Z"],
          [3, "2023-11-14T22:13:20.250Z"],
          [3, "1969-12-31T23:59:58.500Z"]
        ]
      )
    })
  )

  it.effect("does not read directories that can't have entries of the page", () =>
    Effect.gen(function* () {
      const directories = Array.from({ length: 1000 }, (_, n) => `d${String(n).padStart(3, "0")}`)
      const names = Array.from({ length: 150 }, (_, n) => `f${n}`)
      const tree = Object.fromEntries(directories.map((directory) => [directory, names]))
      const { requested, read } = printing({ ...tree, "": directories.map((directory) => `${directory}/`) })
      const { files, next } = yield* page("listFiles", read, { depth: 64, limit: 1000, after: "d500/f149" })
      assert.deepStrictEqual([files.length, files[0]?.path, next], [1000, "d500/f15", files.at(-1)?.path])
      assert.isBelow(requested.flat().length, 80)
    })
  )

  it.effect("is the same for any split of the output into chunks", () =>
    Effect.gen(function* () {
      const tree = { "": ["é/", "b"], é: ["ü", "deep/"], "é/deep": ["x"] }
      for (const chunk of [1, 2, 7, 4096]) {
        const { files, next } = yield* page("listFiles", printing(tree, chunk).read, first)
        assert.deepStrictEqual([files.map((file) => file.path), next], [["b", "é", "é/deep", "é/deep/x", "é/ü"], null])
      }
    })
  )

  it.effect("ends early if its names are long", () =>
    Effect.gen(function* () {
      const names = Array.from({ length: 1000 }, (_, n) => `${String(n).padStart(4, "0")}${"x".repeat(4000)}`)
      const { files, next } = yield* page("listFiles", printing({ "": names }).read, first)
      assert.isAtMost(files.length, 140)
      assert.strictEqual(next, files.at(-1)?.path)
    })
  )

  it.effect("fails at once if the program prints something other than a listing", () =>
    Effect.gen(function* () {
      const answers = [
        "y\n".repeat(4096),
        "\0".repeat(4096),
        record("/etc/passwd"),
        record("./other/file"),
        record("./..")
      ]
      for (const answer of answers) {
        const { read, taken } = forEver(() => answer)
        assert.strictEqual(yield* refused(read), "bad_answer")
        assert.isBelow(taken(), 20)
      }
    })
  )

  it.effect("fails if the output ends in the middle of an entry", () =>
    Effect.gen(function* () {
      const printed = Buffer.from(`${record("./a")}./b`)
      assert.strictEqual(yield* refused(() => Stream.make(printed)), "bad_answer")
    })
  )

  it.live("fails with bounded memory on endless output, and yields to other fibers", () =>
    Effect.gen(function* () {
      let turns = 0
      const ticking = setInterval(() => turns++, 1)
      const { read } = forEver((n) =>
        Array.from({ length: 500 }, (_, m) => record(`./${10 ** 9 - n * 500 - m}`)).join("")
      )
      assert.strictEqual(yield* refused(read), "bad_answer")
      clearInterval(ticking)
      assert.isAbove(turns, 20)
    })
  )
})
