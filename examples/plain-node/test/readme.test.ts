import { globSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { assert, it } from "vitest"

const examples = resolve(import.meta.dirname, "../..")

// No `**` at the top: node_modules links back to this folder.
const sources = globSync(["*/*.ts", "*/test/*.ts", "*/app/**/*.ts"], { cwd: examples }).map((file) =>
  readFileSync(join(examples, file), "utf8")
)

/** The text without indentation. */
const unindented = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .join("\n")

it("the TypeScript code in the README is part of the examples", () => {
  const readme = readFileSync(join(examples, "../README.md"), "utf8")
  const shown = Array.from(readme.matchAll(/```ts\n(.*?)```/gs), ([, code]) => unindented(code!.trim()))
  assert.isAbove(shown.length, 2)
  const missing = shown.filter((code) => !sources.some((source) => unindented(source).includes(code)))
  assert.deepStrictEqual(missing, [])
})
