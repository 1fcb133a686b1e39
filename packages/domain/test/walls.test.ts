import { assert, describe, it } from "@effect/vitest"
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve } from "node:path"
import { fileURLToPath } from "node:url"

const packages = resolve(dirname(fileURLToPath(import.meta.url)), "../..")

interface Source {
  /** From `packages/`, as `domain/src/sandbox/Command.ts`. */
  readonly file: string
  readonly text: string
  readonly imports: ReadonlyArray<string>
}

const importOf = /^\s*(?:import|export)\s(?:[^"'`]*?\sfrom\s)?["']([^"']+)["']|import\(\s*["']([^"']+)["']\s*\)/gm

/** The code without its template texts, which may be programs for elsewhere; what they are put together from stays. */
const withoutTexts = (code: string): string =>
  code.replaceAll(/(?<!\/)`((?:\\.|[^`\\])*)`/gs, (_, text: string) =>
    Array.from(text.matchAll(/\$\{([^}]*)\}/g), (match) => match[1]).join(";")
  )

const read = (file: string): Source => {
  const text = withoutTexts(readFileSync(join(packages, file), "utf8"))
  const imports = Array.from(text.matchAll(importOf), (match) => (match[1] ?? match[2])!)
  return { file, text, imports }
}

const sourcesOf = (name: string): ReadonlyArray<Source> =>
  readdirSync(join(packages, name, "src"), { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts"))
    .map((file) => read(join(name, "src", file)))

/** What breaks a rule, each with the file it stands in; an empty list is what every test wants. */
const breaches = (sources: ReadonlyArray<Source>, breaks: (source: Source, target: string) => boolean) =>
  sources.flatMap((source) =>
    source.imports.filter((target) => breaks(source, target)).map((target) => `${source.file} imports ${target}`)
  )

const isRelative = (target: string) => target.startsWith(".")
const isOf = (name: string) => (target: string) => target === name || target.startsWith(`${name}/`)

/** The folder a relative import leads to, from `packages/`. */
const landing = (source: Source, target: string) => relative(packages, resolve(packages, dirname(source.file), target))

/** A room may import the rooms above it; those on one line do not import each other. */
const rooms = [["identity"], ["sandbox"], ["repo"], ["task"], ["account", "session", "app"]]

/** The folders of `packages/http/src` that each folder may import besides itself. */
const httpFolders: Record<string, ReadonlyArray<string>> = {
  api: [],
  preview: [],
  streams: ["api"],
  middleware: ["api"],
  handlers: ["api", "streams", "middleware", "preview"],
  server: ["api", "streams", "middleware", "handlers", "preview"]
}

/** The folders of `packages/adapters/src/local`, each of which may import those before it. Files above them import all. */
const localFolders = ["storage", "process", "isolation", "network", "sandbox"]

/** References that the server sets and every folder may read: its shutdown, and the state of its data directory. */
const serverReferences = ["http/src/server/Shutdown.ts", "http/src/server/DataHealth.ts"]

/** The most source files that a folder holds. */
const filesPerFolder = 18

const emulateCommand = "cli/src/commands/emulate.ts"
const doctorCommand = "cli/src/commands/doctor.ts"

const floorOf = (room: string) => rooms.findIndex((floor) => floor.includes(room))
const roomOf = (file: string) => file.split("/")[2]!

describe("The walls between packages", () => {
  const domain = sourcesOf("domain")
  const adapters = sourcesOf("adapters")
  const http = sourcesOf("http")
  const cli = sourcesOf("cli")
  const all = [...domain, ...adapters, ...http, ...cli, ...sourcesOf("testkit")]

  it("find the files they are to keep apart", () => {
    assert.isAbove(domain.length, 20)
    assert.isAbove(domain.flatMap(({ imports }) => imports).length, 60)
  })

  it("let the domain depend on effect alone", () => {
    assert.deepStrictEqual(
      breaches(domain, (_, target) => !isRelative(target) && !isOf("effect")(target)),
      []
    )
  })

  it("let a room of the domain import only the rooms before it", () => {
    const wrong = breaches(domain, (source, target) => {
      if (!isRelative(target)) return false
      const from = roomOf(source.file)
      const to = roomOf(landing(source, target))
      if (from === to || to.endsWith(".ts")) return false
      return from.endsWith(".ts") || floorOf(to) < 0 || floorOf(from) <= floorOf(to)
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("let an adapter depend on the domain, on effect, and on its own SDK", () => {
    const allowed: Record<string, ReadonlyArray<string>> = {
      git: [],
      "git-local": [],
      github: ["@octokit/rest"],
      local: ["koffi"],
      sandbox: [],
      postgres: ["kysely", "pg", "@electric-sql/pglite"],
      tasks: ["kysely", "pg-boss"],
      vercel: ["@vercel/sandbox"]
    }
    const wrong = breaches(adapters, (source, target) => {
      if (isRelative(target) || target.startsWith("node:")) return false
      const own = ["effect", "@castellan/domain", ...(allowed[roomOf(source.file)] ?? [])]
      return !own.some((name) => isOf(name)(target))
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("keep adapters apart, but for the queue that shares the store's transactions, and what hosts or providers share", () => {
    const providers = ["local", "vercel"]
    const wrong = breaches(adapters, (source, target) => {
      if (!isRelative(target)) return false
      const from = roomOf(source.file)
      const to = roomOf(landing(source, target))
      return (
        from !== to &&
        to !== "git" &&
        to !== "process" &&
        !(to === "sandbox" && providers.includes(from)) &&
        !(from === "tasks" && to === "postgres")
      )
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("let only the composition of a server and two commands import adapters", () => {
    const importers = ["http/src/server/main.ts", "http/src/server/AdminKey.ts", "http/src/server/ServerConfig.ts"]
    const allowed = new Set([...importers, doctorCommand, emulateCommand])
    assert.deepStrictEqual(
      breaches([...http, ...cli], ({ file }, target) => isOf("@castellan/adapters")(target) && !allowed.has(file)),
      []
    )
  })

  it("let a folder of http import only the folders that it builds on", () => {
    const wrong = breaches(http, (source, target) => {
      if (!isRelative(target)) return false
      const to = landing(source, target)
      if (serverReferences.includes(to)) return false
      return roomOf(source.file) !== roomOf(to) && !httpFolders[roomOf(source.file)]!.includes(roomOf(to))
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("let a folder of the local provider import only the folders before it", () => {
    const folderOf = (file: string) => localFolders.indexOf(file.split("/")[3]!)
    const local = adapters.filter(({ file }) => /^adapters\/src\/local\/.+\//.test(file))
    const wrong = breaches(local, (source, target) => {
      if (!isRelative(target)) return false
      const to = landing(source, target)
      if (!to.startsWith("adapters/src/local/")) return false
      return folderOf(to) < 0 || folderOf(to) > folderOf(source.file)
    })
    assert.deepStrictEqual(wrong, [])
  })

  it("keep the command line out of http", () => {
    assert.deepStrictEqual(
      breaches(http, (_, target) => isOf("castellan")(target)),
      []
    )
  })

  it("keep folders small enough to survey", () => {
    const counts = new Map<string, number>()
    for (const { file } of all) counts.set(dirname(file), (counts.get(dirname(file)) ?? 0) + 1)
    assert.deepStrictEqual(
      [...counts].filter(([, count]) => count > filesPerFolder),
      []
    )
  })

  it("keep the testkit out of everything that ships, but for the command that loads an emulator where there is one", () => {
    assert.deepStrictEqual(
      breaches(
        [...domain, ...adapters, ...http, ...cli],
        ({ file }, target) => file !== emulateCommand && isOf("@castellan/testkit")(target)
      ),
      []
    )
  })

  it("leave the environment to Config", () => {
    const readers = all.filter(({ text }) => /process\.env\b/.test(text)).map(({ file }) => file)
    assert.deepStrictEqual(readers, [])
  })

  it("leave time to Effect in the domain", () => {
    const wrong = domain.filter(({ text }) => /\bDate\.now\(|\bnew Date\(|\basync\b/.test(text)).map(({ file }) => file)
    assert.deepStrictEqual(wrong, [])
  })

  it("have no barrels, and no names that say nothing", () => {
    const wrong = all
      .map(({ file }) => file)
      .filter((file) => /(^|\/)(index|utils?|helpers?|common|types)\.ts$|Manager\.ts$|Impl\.ts$|Live\.ts$/.test(file))
    assert.deepStrictEqual(wrong, [])
  })
})
