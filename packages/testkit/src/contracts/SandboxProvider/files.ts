import { FileMode } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { path, utf8, created, ran, fileText, listed, everything, written, tagOf } from "./fixtures.ts"

export const files = (compile: Compile): Clauses<SandboxProvider> => ({
  "a file is read as it was written, whatever its bytes": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const bytes = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7919) % 256)
        const pieces = Stream.make(bytes.subarray(0, 1000), bytes.subarray(1000))
        assert.strictEqual(yield* provider.writeFile(name, path("deep/er/file with spaces"), pieces), bytes.length)
        const read = yield* Stream.runCollect(provider.readFile(name, path("deep/er/file with spaces")))
        assert.deepStrictEqual(Buffer.concat(read), Buffer.from(bytes))
      })
    ),

  "a command sees what was written, and what it writes is read": () =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "in", "hello")
        const { stdout } = yield* ran(
          name,
          compile(Step.PrintFile({ path: "in" }), Step.Append({ path: "out", text: "bye" }))
        )
        assert.deepStrictEqual([stdout, yield* fileText(name, "out")], ["hello", "bye"])
      })
    ),

  "a file whose content breaks off stays as it was": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* written(name, "file", "old")
        const broken = Stream.concat(Stream.make(utf8("new")), Stream.fail("broken off" as const))
        assert.strictEqual(yield* Effect.flip(provider.writeFile(name, path("file"), broken)), "broken off")
        yield* Effect.flip(provider.writeFile(name, path("other"), broken))
        assert.strictEqual(yield* fileText(name, "file"), "old")
        const { files } = yield* listed(name, ".", everything)
        assert.deepStrictEqual(
          files.map((file) => file.path),
          ["file"]
        )
      })
    ),

  "a file that is overwritten keeps its mode, unless another is asked for": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const write = (file: string, mode?: string) =>
          provider.writeFile(
            name,
            path(file),
            Stream.make(utf8("x")),
            mode === undefined ? {} : { mode: FileMode.make(mode) }
          )
        yield* write("private", "600")
        yield* write("private")
        yield* write("run", "0755")
        yield* write("run")
        yield* write("changed", "755")
        yield* write("changed", "0640")
        yield* write("new")
        assert.deepStrictEqual(
          (yield* listed(name, ".")).files.map(({ mode, path }) => `${mode} ${path}`),
          ["0640 changed", "0644 new", "0600 private", "0755 run"]
        )
      })
    ),

  "a link is listed with where it leads": () =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "file", "x")
        yield* ran(name, compile(Step.Link({ path: "link", target: "nowhere/at all" })))
        const { files } = yield* listed(name, ".")
        assert.deepStrictEqual(
          files.map(({ path, target, type }) => [path, type, target]),
          [
            ["file", "file", undefined],
            ["link", "link", "nowhere/at all"]
          ]
        )
      })
    ),

  "a write follows a link to its file, and the link stays": () =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "dir/file", "old")
        yield* ran(
          name,
          compile(
            Step.Link({ path: "link", target: "dir/file" }),
            Step.Link({ path: "dir/second", target: "../link" }),
            Step.Link({ path: "to-dir", target: "dir" })
          )
        )
        yield* written(name, "dir/second", "new")
        yield* written(name, "to-dir/beside", "more")
        assert.strictEqual(yield* fileText(name, "dir/file"), "new")
        assert.strictEqual(yield* fileText(name, "link"), "new")
        assert.strictEqual(yield* fileText(name, "dir/beside"), "more")
        const { files } = yield* listed(name, ".", everything)
        assert.deepStrictEqual(
          files.map(({ path, type }) => `${path} ${type}`),
          ["dir directory", "dir/beside file", "dir/file file", "dir/second link", "link link", "to-dir link"]
        )
      })
    ),

  "a link that leads to no file is neither written through nor replaced": () =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "dir/file", "x")
        yield* ran(
          name,
          compile(
            Step.Link({ path: "dangling", target: "nothing" }),
            Step.Link({ path: "loop", target: "loop" }),
            Step.Link({ path: "to-dir", target: "dir" })
          )
        )
        assert.strictEqual(yield* tagOf(written(name, "dangling", "x")), "FileRefused")
        assert.strictEqual(yield* tagOf(written(name, "loop", "x")), "FileRefused")
        assert.strictEqual(yield* tagOf(written(name, "to-dir", "x")), "FileNotFound")
        for (const link of ["dangling", "loop", "to-dir"]) {
          assert.strictEqual(yield* tagOf(fileText(name, link)), "FileNotFound", link)
        }
        const { files } = yield* listed(name, ".")
        assert.deepStrictEqual(
          files.map(({ path, type }) => `${path} ${type}`),
          ["dangling link", "dir directory", "loop link", "to-dir link"]
        )
      })
    ),

  "what is not a file is not read, and what is not a directory not listed": () =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "dir/file", "")
        assert.strictEqual(yield* tagOf(fileText(name, "nothing")), "FileNotFound")
        assert.strictEqual(yield* tagOf(fileText(name, "dir")), "FileNotFound")
        assert.strictEqual(yield* tagOf(written(name, "dir", "x")), "FileNotFound")
        assert.strictEqual(yield* tagOf(written(name, "dir/file/below", "x")), "FileNotFound")
        const list = (at: string) => listed(name, at)
        assert.strictEqual(yield* tagOf(list("nothing")), "FileNotFound")
        assert.strictEqual(yield* tagOf(list("dir/file")), "FileNotFound")
      })
    ),

  "a file's name may have 255 bytes, and where nothing can stand nothing is written": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const longest = "é".repeat(127) + "x"
        yield* written(name, longest, "kept")
        assert.strictEqual(yield* fileText(name, longest), "kept")
        for (const refused of [`${longest}x`, `${longest}x/file`, "new/", "new/.", `${longest}/`]) {
          assert.strictEqual(yield* tagOf(written(name, refused, "x")), "FileRefused", refused)
        }
        const { files } = yield* listed(name, ".", everything)
        assert.deepStrictEqual(
          files.map((file) => file.path),
          [longest]
        )
      })
    )
})
