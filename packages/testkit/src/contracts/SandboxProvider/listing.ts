import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect } from "effect"
import type { Clauses } from "../contract.ts"
import { path, withSandbox, listFiles, allLevels, writeText } from "./fixtures.ts"

export const listing: Clauses<SandboxProvider> = {
  "a listing is in the order of paths and as deep as the caller asks": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        yield* writeText(name, "b", "12345")
        yield* writeText(name, "a/deep/c", "1")
        yield* writeText(name, "a-b", "1")
        const list = (depth: number) =>
          Effect.map(listFiles(name, ".", depth), ({ files }) =>
            files.map(({ path, size, type }) => (type === "file" ? `${path} ${size}` : `${path} ${type}`))
          )
        assert.deepStrictEqual(yield* list(1), ["a directory", "a-b 1", "b 5"])
        assert.deepStrictEqual(yield* list(2), ["a directory", "a-b 1", "a/deep directory", "b 5"])
        assert.deepStrictEqual(yield* list(64), ["a directory", "a-b 1", "a/deep directory", "a/deep/c 1", "b 5"])
        const { files: below } = yield* listFiles(name, "a")
        assert.deepStrictEqual(
          below.map((file) => file.path),
          ["deep"]
        )
        const file = (yield* listFiles(name, ".")).files.at(-1)!
        assert.isBelow(Math.abs(file.modifiedAt.epochMilliseconds - (yield* DateTime.now).epochMilliseconds), 60_000)
      })
    ),

  "pages of a listing have every entry once even if files are added before the cursor": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const files = ["a/1", "a/2/x", "a/3", "a.b", "b/y", "b/z", "c"]
        for (const file of files) yield* writeText(name, file, "x")
        const all = ["a", "a.b", "a/1", "a/2", "a/2/x", "a/3", "b", "b/y", "b/z", "c"]
        for (const limit of [1, 2, 3, all.length, 1000]) {
          const found: Array<string> = []
          let after: string | undefined
          do {
            const page = yield* provider.listFiles(name, path("."), { depth: allLevels, limit, after })
            assert.isAtMost(page.files.length, limit)
            found.push(...page.files.map((file) => file.path))
            if (page.next !== null) assert.strictEqual(page.next, found.at(-1))
            after = page.next ?? undefined
          } while (after !== undefined)
          assert.deepStrictEqual(found, all, `${limit} at once`)
        }
        const pageAfter = (after: string) =>
          Effect.map(provider.listFiles(name, path("."), { depth: allLevels, limit: 2, after }), (page) =>
            page.files.map((file) => file.path)
          )
        yield* writeText(name, "a/0", "x")
        assert.deepStrictEqual(yield* pageAfter("a/1"), ["a/2", "a/2/x"])
        // The entry that the previous page ended with may have been deleted.
        assert.deepStrictEqual(yield* pageAfter("a/2/x/none"), ["a/3", "b"])
        assert.deepStrictEqual(yield* pageAfter("zzz"), [])
      })
    )
}
