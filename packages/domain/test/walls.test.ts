/** Checks the layout rules: which modules may import which, and how files are named. */
import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"

const packages = resolve(dirname(fileURLToPath(import.meta.url)), "../..")

interface Source {
  /** Relative to `packages/`, such as `domain/src/sandbox/Command.ts`. */
  readonly file: string
  readonly text: string
  readonly imports: ReadonlyArray<string>
}

const importOf = /^\s*(?:import|export)\s(?:[^"'`]*?\sfrom\s)?["']([^"']+)["']|import\(\s*["']([^"']+)["']\s*\)/gm

/** Removes template literals, which may be programs for other processes, but keeps the expressions in them. */
const withoutTemplates = (code: string): string =>
  code.replaceAll(/(?<!\/)`((?:\\.|[^`\\])*)`/gs, (_, text: string) =>
    Array.from(text.matchAll(/\$\{([^}]*)\}/g), (match) => match[1]).join(";")
  )

const read = (file: string): Source => {
  const text = withoutTemplates(readFileSync(join(packages, file), "utf8"))
  const imports = Array.from(text.matchAll(importOf), (match) => (match[1] ?? match[2])!)
  return { file, text, imports }
}

const sourcesOf = (name: string): ReadonlyArray<Source> =>
  readdirSync(join(packages, name, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => read(join(name, "src", file)))

/** The imports that break a rule, as sentences. */
const violations = (sources: ReadonlyArray<Source>, breaks: (source: Source, target: string) => boolean) =>
  sources.flatMap((source) =>
    source.imports.filter((target) => breaks(source, target)).map((target) => `${source.file} imports ${target}`)
  )

const isRelative = (target: string) => target.startsWith(".")
const isOf = (name: string) => (target: string) => target === name || target.startsWith(`${name}/`)

/** The target of a relative import, relative to `packages/`. */
const targetOf = (source: Source, target: string) => relative(packages, resolve(packages, dirname(source.file), target))

/** The folders of the domain by level. A folder may import only folders of earlier levels. */
const domainLevels = [
  ["lifecycle"],
  ["identity"],
  ["network"],
  ["sandbox"],
  ["repo"],
  ["task"],
  ["account", "session", "app"]
]

/** The folders of `packages/http/src` that each folder may import besides itself. */
const httpFolders: Record<string, ReadonlyArray<string>> = {
  api: [],
  preview: [],
  streams: ["api"],
  middleware: ["api"],
  handlers: ["api", "streams", "middleware", "preview"],
  server: ["api", "streams", "middleware", "handlers", "preview"]
}

/** The folders of `packages/adapters/src/local`. Each may import those before it; files outside of them may import all. */
const localFolders = ["storage", "process", "isolation", "network", "sandbox"]

/** Modules of `server` that every folder may import: references that the server provides. */
const serverReferences = ["http/src/server/Shutdown.ts", "http/src/server/DataHealth.ts"]

/** Maximum number of source files in a folder. */
const maxFilesPerFolder = 18

const emulateCommand = "cli/src/commands/emulate.ts"
const doctorCommand = "cli/src/commands/doctor.ts"

const levelOf = (folder: string) => domainLevels.findIndex((level) => level.includes(folder))
const folderOf = (file: string) => file.split("/")[2]!

describe("The layout of the packages", () => {
  const domain = sourcesOf("domain")
  const adapters = sourcesOf("adapters")
  const http = sourcesOf("http")
  const cli = sourcesOf("cli")
  const all = [...domain, ...adapters, ...http, ...cli, ...sourcesOf("testkit")]

  it("is checked on all source files", () => {
    assert.isAbove(domain.length, 20)
    assert.isAbove(domain.flatMap(({ imports }) => imports).length, 60)
  })

  it("lets the domain depend only on effect", () => {
    assert.deepStrictEqual(
      violations(domain, (_, target) => !isRelative(target) && !isOf("effect")(target)),
      []
    )
  })

  it("lets a folder of the domain import only folders of earlier levels", () => {
    const wrong = violations(domain, (source, target) => {
      if (!isRelative(target)) return false
      const from = folderOf(source.file)
      const to = folderOf(targetOf(source, target))
      if (from === to || to.endsWith(".ts")) return false
      return from.endsWith(".ts") || levelOf(to) < 0 || levelOf(from) <= levelOf(to)
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("lets an adapter depend only on the domain, effect and its own SDK", () => {
    const allowed: Record<string, ReadonlyArray<string>> = {
      git: [],
      "git-local": [],
      github: ["@octokit/rest"],
      local: ["koffi"],
      network: ["dns-packet", "node-forge"],
      sandbox: [],
      postgres: ["kysely", "pg", "@electric-sql/pglite"],
      tasks: ["kysely", "pg-boss"],
      vercel: ["@vercel/sandbox"]
    }
    const wrong = violations(adapters, (source, target) => {
      if (isRelative(target) || target.startsWith("node:")) return false
      const own = ["effect", "@castellan/domain", ...(allowed[folderOf(source.file)] ?? [])]
      return !own.some((name) => isOf(name)(target))
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("keeps adapters independent, except for shared modules and the queue that uses the store's transactions", () => {
    const providers = ["local", "vercel"]
    const wrong = violations(adapters, (source, target) => {
      if (!isRelative(target)) return false
      const from = folderOf(source.file)
      const to = folderOf(targetOf(source, target))
      return (
        from !== to &&
        to !== "git" &&
        to !== "process" &&
        !((to === "sandbox" || to === "network") && providers.includes(from)) &&
        !(from === "tasks" && to === "postgres")
      )
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("lets only the server's composition and two commands import adapters", () => {
    const importers = ["http/src/server/main.ts", "http/src/server/AdminKey.ts", "http/src/server/ServerConfig.ts"]
    const allowed = new Set([...importers, doctorCommand, emulateCommand])
    assert.deepStrictEqual(
      violations([...http, ...cli], ({ file }, target) => isOf("@castellan/adapters")(target) && !allowed.has(file)),
      []
    )
  })

  it("lets a folder of http import only the folders declared for it", () => {
    const wrong = violations(http, (source, target) => {
      if (!isRelative(target)) return false
      const to = targetOf(source, target)
      if (serverReferences.includes(to)) return false
      return folderOf(source.file) !== folderOf(to) && !httpFolders[folderOf(source.file)]!.includes(folderOf(to))
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("lets a folder of the local provider import only the folders before it", () => {
    const positionOf = (file: string) => localFolders.indexOf(file.split("/")[3]!)
    const local = adapters.filter(({ file }) => /^adapters\/src\/local\/.+\//.test(file))
    const wrong = violations(local, (source, target) => {
      if (!isRelative(target)) return false
      const to = targetOf(source, target)
      if (!to.startsWith("adapters/src/local/")) return false
      return positionOf(to) < 0 || positionOf(to) > positionOf(source.file)
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("keeps the command line out of http", () => {
    assert.deepStrictEqual(
      violations(http, (_, target) => isOf("castellan")(target)),
      []
    )
  })

  it("keeps folders at 18 files or fewer", () => {
    const counts = new Map<string, number>()
    for (const { file } of all) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1)
    assert.deepStrictEqual(
      [...counts].filter(([, count]) => count > maxFilesPerFolder),
      []
    )
  })

  it("keeps the testkit out of published packages, except for the command that starts an emulator", () => {
    assert.deepStrictEqual(
      violations(
        [...domain, ...adapters, ...http, ...cli],
        ({ file }, target) => file !== emulateCommand && isOf("@castellan/testkit")(target)
      ),
      []
    )
  })

  it("reads environment variables only through Config", () => {
    const readers = all.filter(({ text }) => /process\.env\b/.test(text)).map(({ file }) => file)
    assert.deepStrictEqual(readers, [])
  })

  it("reads the time only through Effect in the domain", () => {
    const wrong = domain.filter(({ text }) => /\bDate\.now\(|\bnew Date\(|\basync\b/.test(text)).map(({ file }) => file)
    assert.deepStrictEqual(wrong, [])
  })

  it("has no barrel files, and no generic file names", () => {
    const wrong = all
      .map(({ file }) => file)
      .filter((file) => /(^|\/)(index|utils?|helpers?|common|types)\.ts$|Manager\.ts$|Impl\.ts$|Live\.ts$/.test(file))
    assert.deepStrictEqual(wrong, [])
  })
})
