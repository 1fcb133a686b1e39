import { maxFileBytes, RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import type { Clauses } from "../contract.ts"
import type { NewAuthor } from "./Author.ts"
import { path, utf8, unknownCommit, tagOf, withRepo, pushFiles, readText } from "./fixtures.ts"

export const files = (newAuthor: NewAuthor): Clauses<RepoHost> => ({
  "a file is read byte for byte": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const binary = Uint8Array.from({ length: 300_000 }, (_, n) => (n * 7919) % 256)
        const large = Uint8Array.from({ length: 2_000_000 }, (_, n) => (n >> 3) % 251)
        const files = { empty: new Uint8Array(), "a/binary": binary, large, lines: utf8("a\r\nb\n") }
        yield* pushFiles(yield* newAuthor, repo, files)
        for (const [name, bytes] of Object.entries(files)) {
          const read = yield* host.readFile(repo, path(name))
          assert.isTrue(Buffer.from(read).equals(Buffer.from(bytes)), name)
        }
      })
    ),

  "reading a path that is not a file fails with RepoFileNotFound": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const read = (file: string) => tagOf(host.readFile(repo, path(file)))
        assert.strictEqual(yield* read("file"), "RepoFileNotFound")
        yield* pushFiles(yield* newAuthor, repo, {
          "directory/file": "1",
          ".gitmodules": '[submodule "sub"]\n\tpath = sub\n\turl = https://example.com/sub\n',
          sub: { submodule: unknownCommit }
        })
        for (const file of ["nothing", "directory", "directory/nothing", "directory/file/below", "sub", "sub/file"]) {
          assert.strictEqual(yield* read(file), "RepoFileNotFound", file)
        }
      })
    ),

  "reading a symbolic link returns the file of the repository that it leads to, and never leaves the repository": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        yield* pushFiles(yield* newAuthor, repo, {
          "a/file": "inside",
          "a/beside": { link: "file" },
          "b/up": { link: "../a/file" },
          "b/nowhere": { link: "nothing" },
          "b/directory": { link: "../a" },
          "b/absolute": { link: "/etc/hosts" },
          "b/outside": { link: "../../../../../../../../../../etc/hosts" },
          "b/itself": { link: "itself" }
        })
        for (const file of ["a/beside", "b/up"]) assert.strictEqual(yield* readText(repo, file), "inside")
        for (const file of ["b/nowhere", "b/directory", "b/absolute", "b/outside", "b/itself"]) {
          assert.strictEqual(yield* tagOf(host.readFile(repo, path(file))), "RepoFileNotFound", file)
        }
      })
    ),

  "a file above the size limit fails with RepoFileTooLarge": () =>
    withRepo(
      Effect.fnUntraced(function* (repo) {
        const host = yield* RepoHost
        const bytes = new Uint8Array(maxFileBytes + 1)
        yield* pushFiles(yield* newAuthor, repo, { fits: bytes.subarray(1), not: bytes })
        assert.strictEqual((yield* host.readFile(repo, path("fits"))).length, maxFileBytes)
        assert.strictEqual(yield* tagOf(host.readFile(repo, path("not"))), "RepoFileTooLarge")
      })
    )
})
