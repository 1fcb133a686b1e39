import { existsSync, globSync, readFileSync } from "node:fs"
import { dirname, join, resolve } from "node:path"
import { assert, describe, it } from "vitest"

const root = resolve(import.meta.dirname, "../..")
const read = (file: string) => readFileSync(join(root, file), "utf8")

const documents = globSync(["*.md", "docs/**/*.md", "packages/*/README.md", "examples/*/README.md"], { cwd: root })

const withoutCode = (text: string) => text.replaceAll(/^```.*?^```/gms, "")

/** The anchors of a document's headings, as GitHub derives them. */
const anchorsOf = (text: string) =>
  Array.from(withoutCode(text).matchAll(/^#+ (.+)$/gm), ([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-")
  )

/** The links of a document to files and headings that do not exist. */
const brokenLinks = (document: string): ReadonlyArray<string> =>
  Array.from(withoutCode(read(document)).matchAll(/\]\(([^)\s]+)\)/g), ([, link]) => link!)
    .filter((link) => !/^[a-z]+:/.test(link))
    .filter((link) => {
      const [path = "", anchor] = link.split("#")
      const file = path === "" ? document : join(dirname(document), path)
      if (!existsSync(join(root, file))) return true
      return anchor !== undefined && !anchorsOf(read(file)).includes(anchor)
    })
    .map((link) => `${document}: ${link}`)

describe("The documents", () => {
  it("link only to files and headings that exist", () => {
    assert.deepStrictEqual(documents.flatMap(brokenLinks), [])
  })

  it("list every setting of .env.example with its default", () => {
    const settings = Array.from(read(".env.example").matchAll(/^([A-Z][A-Z0-9_]*)=(.*)$/gm), ([, name, value]) => [
      name!,
      value!
    ])
    const rows = read("docs/configuration.md").matchAll(/^\| `([A-Z][A-Z0-9_]*)` +\| (.*?) +\|/gm)
    const documented = new Map(Array.from(rows, ([, name, value]) => [name!, value!]))
    assert.isAbove(settings.length, 40)
    assert.sameMembers(
      settings.map(([name]) => name),
      [...documented.keys()]
    )
    const different = settings.filter(([name, value]) => value !== "" && documented.get(name!) !== `\`${value}\``)
    assert.deepStrictEqual(different, [])
  })
})
