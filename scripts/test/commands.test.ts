import { commands } from "castellan/commands.ts"
import { globSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { assert, describe, it } from "vitest"

const root = resolve(import.meta.dirname, "../..")
const read = (file: string) => readFileSync(join(root, file), "utf8")

const scripts = Object.keys((JSON.parse(read("package.json")) as { scripts: Record<string, string> }).scripts)

/** Scripts that CI does not run, with the reason. */
const notInCi: Record<string, string> = {
  start: "it runs until it is ended; the tests of the server start it the same way",
  format: "it changes files; check fails where it would",
  openapi: "it changes a file; check fails where it would",
  docs: "it changes a file; check fails where it would"
}

/** The npm scripts that a text mentions. */
const npmScripts = (text: string): ReadonlyArray<string> => [
  ...Array.from(text.matchAll(/\bnpm run (?:--silent )?([a-z][\w:-]*)/g), ([, name]) => name!),
  ...Array.from(text.matchAll(/\bnpm (test|start)\b/g), ([, name]) => name!)
]

const documents = globSync(
  [
    "*.md",
    "docs/**/*.md",
    "packages/*/README.md",
    "examples/*/README.md",
    ".env.example",
    "Dockerfile",
    "compose.yaml"
  ],
  { cwd: root }
)

interface Node {
  readonly name: string
  readonly subcommands: ReadonlyArray<{ readonly commands: ReadonlyArray<Node> }>
}

/** The first word that should be a subcommand but is not; null if the words name a command. */
const unknownSubcommand = (words: ReadonlyArray<string>): string | null => {
  let command: Node = commands
  for (const word of words) {
    const below = command.subcommands.flatMap((group) => group.commands)
    if (below.length === 0) return null
    const next = below.find(({ name }) => name === word)
    if (next === undefined) return word
    command = next
  }
  return null
}

const words = (text: string) => /^[a-z-]+(?: [a-z-]+)*/.exec(text)?.[0].split(" ") ?? []

/** Invocations of the command line: after a prompt, after npx, or at the start of a code span. */
const invocations = (text: string) =>
  Array.from(text.matchAll(/(?:`|\$ |npx |\.bin\/)castellan ([a-z][^\n`]*)/g), ([, rest]) => words(rest!))

const inCi = npmScripts(read(".ci/run").replaceAll(/^\s*#.*$/gm, ""))

describe("The scripts of package.json", () => {
  it("are run by CI or listed with a reason for their exclusion", () => {
    const forgotten = scripts.filter((name) => !inCi.includes(name) && !Object.hasOwn(notInCi, name))
    assert.deepStrictEqual(forgotten, [])
  })

  it("are listed as excluded only while CI does not run them", () => {
    const stale = Object.keys(notInCi).filter((name) => !scripts.includes(name) || inCi.includes(name))
    assert.deepStrictEqual(stale, [])
  })

  it("include every script that CI runs", () => {
    assert.isAbove(inCi.length, 5)
    const missing = inCi.filter((name) => !scripts.includes(name))
    assert.deepStrictEqual(missing, [])
  })
})

describe("The documents", () => {
  it("mention only npm scripts that exist", () => {
    const named = documents.flatMap((file) => npmScripts(read(file)).map((name) => ({ file, name })))
    assert.isAbove(named.length, 20)
    const missing = named.filter(({ name }) => !scripts.includes(name))
    assert.deepStrictEqual(missing, [])
  })

  it("mention only subcommands of the command line that exist", () => {
    const named = documents.flatMap((file) => invocations(read(file)).map((invocation) => ({ file, invocation })))
    assert.isAbove(named.length, 15)
    const missing = named.filter(({ invocation }) => unknownSubcommand(invocation) !== null)
    assert.deepStrictEqual(missing, [])
  })

  it("mention only existing subcommands where docs/command-line.md omits the program's name", () => {
    const spans = Array.from(read("docs/command-line.md").matchAll(/`([a-z]+ [a-z-][^`]*)`/g), ([, span]) =>
      words(span!)
    )
    const groups = commands.subcommands.flatMap((group) => group.commands)
    const named = spans.filter(([first]) => groups.some(({ name }) => name === first))
    assert.isAbove(named.length, 5)
    assert.deepStrictEqual(
      named.filter((span) => unknownSubcommand(span) !== null),
      []
    )
  })

  it("fail these checks when they mention something that does not exist", () => {
    assert.deepStrictEqual(npmScripts("`npm run bench:all -- --quick` and `npm start`"), ["bench:all", "start"])
    assert.deepStrictEqual(invocations("$ npx castellan sessions nap ID").map(unknownSubcommand), ["nap"])
    assert.deepStrictEqual(invocations("`castellan sandboxes create -- ls`").map(unknownSubcommand), [null])
  })
})
