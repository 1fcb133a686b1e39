import { FileMode } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { path, utf8, withSandbox, runCommand, readText, listFiles, allLevels, writeText, tagOf } from "./fixtures.ts"

export const files = (compile: Compile): Clauses<SandboxProvider> => ({
  "a file is read byte for byte as it was written": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const bytes = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7919) % 256)
        const pieces = Stream.make(bytes.subarray(0, 1000), bytes.subarray(1000))
        assert.strictEqual(yield* provider.writeFile(name, path("deep/er/file with spaces"), pieces), bytes.length)
        const read = yield* Stream.runCollect(provider.readFile(name, path("deep/er/file with spaces")))
        assert.deepStrictEqual(Buffer.concat(read), Buffer.from(bytes))
      })
    ),

  "commands and file operations see the same files": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        yield* writeText(name, "in", "hello")
        const { stdout } = yield* runCommand(
          name,
          compile(Step.PrintFile({ path: "in" }), Step.Append({ path: "out", text: "bye" }))
        )
        assert.deepStrictEqual([stdout, yield* readText(name, "out")], ["hello", "bye"])
      })
    ),

  "a file does not change if the stream of its new content fails": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* writeText(name, "file", "old")
        const broken = Stream.concat(Stream.make(utf8("new")), Stream.fail("broken off" as const))
        assert.strictEqual(yield* Effect.flip(provider.writeFile(name, path("file"), broken)), "broken off")
        yield* Effect.flip(provider.writeFile(name, path("other"), broken))
        assert.strictEqual(yield* readText(name, "file"), "old")
        const { files } = yield* listFiles(name, ".", allLevels)
        assert.deepStrictEqual(
          files.map((file) => file.path),
          ["file"]
        )
      })
    ),

  "overwriting a file keeps its mode unless the caller sets one": () =>
    withSandbox(
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
          (yield* listFiles(name, ".")).files.map(({ mode, path }) => `${mode} ${path}`),
          ["0640 changed", "0644 new", "0600 private", "0755 run"]
        )
      })
    ),

  "a symbolic link is listed with its target": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        yield* writeText(name, "file", "x")
        yield* runCommand(name, compile(Step.Link({ path: "link", target: "nowhere/at all" })))
        const { files } = yield* listFiles(name, ".")
        assert.deepStrictEqual(
          files.map(({ path, target, type }) => [path, type, target]),
          [
            ["file", "file", undefined],
            ["link", "link", "nowhere/at all"]
          ]
        )
      })
    ),

  "a write follows a symbolic link to its file and keeps the link": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        yield* writeText(name, "dir/file", "old")
        yield* runCommand(
          name,
          compile(
            Step.Link({ path: "link", target: "dir/file" }),
            Step.Link({ path: "dir/second", target: "../link" }),
            Step.Link({ path: "to-dir", target: "dir" })
          )
        )
        yield* writeText(name, "dir/second", "new")
        yield* writeText(name, "to-dir/beside", "more")
        assert.strictEqual(yield* readText(name, "dir/file"), "new")
        assert.strictEqual(yield* readText(name, "link"), "new")
        assert.strictEqual(yield* readText(name, "dir/beside"), "more")
        const { files } = yield* listFiles(name, ".", allLevels)
        assert.deepStrictEqual(
          files.map(({ path, type }) => `${path} ${type}`),
          ["dir directory", "dir/beside file", "dir/file file", "dir/second link", "link link", "to-dir link"]
        )
      })
    ),

  "a write to a symbolic link that leads to no file fails and keeps the link": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        yield* writeText(name, "dir/file", "x")
        yield* runCommand(
          name,
          compile(
            Step.Link({ path: "dangling", target: "nothing" }),
            Step.Link({ path: "loop", target: "loop" }),
            Step.Link({ path: "to-dir", target: "dir" })
          )
        )
        assert.strictEqual(yield* tagOf(writeText(name, "dangling", "x")), "FileRefused")
        assert.strictEqual(yield* tagOf(writeText(name, "loop", "x")), "FileRefused")
        assert.strictEqual(yield* tagOf(writeText(name, "to-dir", "x")), "FileNotFound")
        for (const link of ["dangling", "loop", "to-dir"]) {
          assert.strictEqual(yield* tagOf(readText(name, link)), "FileNotFound", link)
        }
        const { files } = yield* listFiles(name, ".")
        assert.deepStrictEqual(
          files.map(({ path, type }) => `${path} ${type}`),
          ["dangling link", "dir directory", "loop link", "to-dir link"]
        )
      })
    ),

  "reading a directory, listing a file and using a missing path fail with FileNotFound": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        yield* writeText(name, "dir/file", "")
        assert.strictEqual(yield* tagOf(readText(name, "nothing")), "FileNotFound")
        assert.strictEqual(yield* tagOf(readText(name, "dir")), "FileNotFound")
        assert.strictEqual(yield* tagOf(writeText(name, "dir", "x")), "FileNotFound")
        assert.strictEqual(yield* tagOf(writeText(name, "dir/file/below", "x")), "FileNotFound")
        const list = (at: string) => listFiles(name, at)
        assert.strictEqual(yield* tagOf(list("nothing")), "FileNotFound")
        assert.strictEqual(yield* tagOf(list("dir/file")), "FileNotFound")
      })
    ),

  "a file name has up to 255 bytes, and a write to an impossible path fails with FileRefused": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const longest = "é".repeat(127) + "x"
        yield* writeText(name, longest, "kept")
        assert.strictEqual(yield* readText(name, longest), "kept")
        for (const refused of [`${longest}x`, `${longest}x/file`, "new/", "new/.", `${longest}/`]) {
          assert.strictEqual(yield* tagOf(writeText(name, refused, "x")), "FileRefused", refused)
        }
        const { files } = yield* listFiles(name, ".", allLevels)
        assert.deepStrictEqual(
          files.map((file) => file.path),
          [longest]
        )
      })
    )
})
