import { globSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { assert, it } from "vitest"

const examples = resolve(import.meta.dirname, "../..")

// Named one by one, since node_modules leads back here.
const sources = globSync(["*/*.ts", "*/test/*.ts", "*/app/**/*.ts"], { cwd: examples }).map((file) =>
  readFileSync(join(examples, file), "utf8")
)

/** Lines as they are, however far they are moved in. */
const flat = (text: string) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .join("\n")

it("what the README shows is what the examples run", () => {
  const readme = readFileSync(join(examples, "../README.md"), "utf8")
  const shown = Array.from(readme.matchAll(/```ts\n(.*?)```/gs), ([, code]) => flat(code!.trim()))
  assert.isAbove(shown.length, 2)
  const missing = shown.filter((code) => !sources.some((source) => flat(source).includes(code)))
  assert.deepStrictEqual(missing, [])
})
