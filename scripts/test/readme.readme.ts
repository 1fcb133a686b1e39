import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { delimiter, join, resolve } from "node:path"
import { dataDirectory } from "../../packages/http/test/server/serverProcess.ts"
import { Comparison, type Step, stepsOf } from "../console.ts"
import { ended, Program, Shell } from "../shell.ts"

const root = resolve(import.meta.dirname, "../..")

/** The documents whose console blocks are executed, in this order, in one shell and against one server. */
const documents = ["README.md", "docs/api.md", "docs/environments.md", "docs/web-apps.md", "docs/testing.md"]
const read = (document: string) => readFileSync(join(root, document), "utf8")

/** For one command, in milliseconds: the first web app installs its packages. */
const patience = 120_000

/** The machine's own environment without settings of Castellan, and with the pinned Node. */
const environment = (more: Record<string, string>): NodeJS.ProcessEnv => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(CASTELLAN_|KEY$|REPO$|HOST$)/.test(name))),
  PATH: [join(root, "node_modules", ".bin"), process.env["PATH"]].join(delimiter),
  ...more
})

const program = (command: string, args: ReadonlyArray<string>, options: ConstructorParameters<typeof Program>[2]) =>
  Effect.acquireRelease(
    Effect.sync(() => new Program(command, args, options)),
    ({ child }) => Effect.promise(() => ended(child, "SIGTERM"))
  )

const shell = (options: ConstructorParameters<typeof Shell>[0]) =>
  Effect.acquireRelease(
    Effect.sync(() => new Shell(options)),
    ({ program: { child } }) => Effect.promise(() => ended(child, "SIGKILL"))
  )

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "castellan-readme-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

/** The address that `npm start` prints, and the key. */
const banner = (printed: string) => ({
  url: /listens on (http:\S+)/.exec(printed)?.[1],
  key: /^ {2}(cst_\w+)$/m.exec(printed)?.[1],
  curl: /^ *(curl (?:[^\n]*\\\n)*[^\n]*)$/m.exec(printed)?.[1]
})

const problemOf = (document: string, { command, line, shown }: Step, actual: string) =>
  `${document}:${line}: ${command}\n--- the document shows\n${shown}\n--- it prints\n${actual}`

describe("The README and the guides", () => {
  it.live(
    "show what their commands print when they are pasted",
    () =>
      Effect.gen(function* () {
        const data = yield* dataDirectory
        const env = environment({ CASTELLAN_DATA_DIR: data, PORT: "0" })
        const server = yield* program("npm", ["start"], { cwd: root, env })
        const started = yield* Effect.promise(() =>
          server.prints((text) => banner(text).key !== undefined && banner(text).curl !== undefined, patience)
        )
        const { curl, key, url } = banner(started)
        const address = url!.replace("http://127.0.0.1", "localhost")
        const facts = new Map([
          ["cst_…", key!],
          ["/home/you/castellan/.castellan", data],
          ["localhost:3000", address]
        ])

        const problems: Array<string> = []
        const [, shownStart] = /```\n(Castellan listens on .*?\n)```/s.exec(read("README.md"))!
        const printedStart = started.slice(started.indexOf("Castellan listens on"))
        if (!new Comparison().matches(`${shownStart!.trim()}\n…`, printedStart, facts)) {
          problems.push(problemOf("README.md", { line: 0, command: "npm start", shown: shownStart! }, printedStart))
        }

        const outside = yield* shell({ cwd: root, env: environment({ CASTELLAN_URL: `http://${address}` }) })
        const pasted = yield* Effect.promise(() => outside.run(curl!, patience))
        if (!pasted.includes('"status":"COMPLETED","exitCode":0'))
          problems.push(`The curl line of npm start prints ${pasted}`)

        const project = yield* temporary
        symlinkSync(join(root, "packages", "cli", "node_modules"), join(project, "node_modules"))
        let inProject: Shell | undefined

        for (const document of documents) {
          const comparison = new Comparison()
          for (const step of stepsOf(read(document))) {
            const { command, unknown } = comparison.commandOf(step.command, facts)
            if (unknown.length > 0) {
              problems.push(
                `${document}:${step.line}: no output shows ${unknown.join(", ")} as it is used in ${step.command}`
              )
              continue
            }
            // The emulator runs until it is ended. It prints the variables of another shell.
            if (command.startsWith("npx castellan emulate ")) {
              const args = [...command.split(" ").slice(1), "--port", "0"]
              const emulator = yield* program("npx", args, { cwd: root, env: environment({}) })
              const isSaid = (text: string) => comparison.matches(step.shown, text, facts)
              const printed = yield* Effect.promise(() =>
                emulator.prints(isSaid, patience).catch((error: Error) => error.message)
              )
              if (!isSaid(printed)) problems.push(problemOf(document, step, printed))
              inProject = yield* shell({ cwd: project, env: environment({}) })
              const exports = printed.match(/^export .*$/gm) ?? []
              for (const line of exports) yield* Effect.promise(() => inProject!.run(line, patience))
              continue
            }
            // A file that the document shows with `cat` is one that the reader writes.
            const file = /^cat (\S+)$/.exec(command)?.[1]
            if (inProject !== undefined && file !== undefined && !existsSync(join(project, file))) {
              writeFileSync(join(project, file), `${step.shown}\n`)
            }
            const printed = yield* Effect.promise(() => (inProject ?? outside).run(command, patience))
            if (!comparison.matches(step.shown, printed, facts)) problems.push(problemOf(document, step, printed))
          }
        }
        assert.strictEqual(problems.join("\n\n"), "")
      }).pipe(Effect.scoped),
    10 * patience
  )
})

describe("The examples", () => {
  it.live(
    "run with the command that their READMEs name",
    () =>
      Effect.gen(function* () {
        const node = (example: string, cwd: string) =>
          program("node", [join(root, "examples", example, "main.ts")], { cwd, env: environment({ PORT: "0" }) })

        const checks = yield* node("plain-node", yield* temporary)
        yield* Effect.promise(() => checks.ends(patience))
        assert.deepStrictEqual([checks.child.exitCode, checks.printed], [0, "{ verdict: 'passed', output: '2\\n' }\n"])

        const hono = yield* node("hono", yield* temporary)
        const printed = yield* Effect.promise(() => hono.prints((text) => text.endsWith("/dashboard\n"), patience))
        const answer = yield* Effect.promise(() => fetch(printed.trim()))
        assert.deepStrictEqual([answer.status, yield* Effect.promise(() => answer.json())], [200, { sandboxes: [] }])
      }).pipe(Effect.scoped),
    4 * patience
  )
})
