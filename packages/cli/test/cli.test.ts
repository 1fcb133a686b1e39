import { asSteps, Step } from "@castellan/testkit/Program.ts"
import { meanings } from "../src/ExitCode.ts"
import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { castellan } from "./castellanCommand.ts"
import { WebApi } from "../../http/test/WebApi.ts"

layer(WebApi.layer)("The command line", (it) => {
  const join = (more?: { readonly platformAdmin?: boolean }) => Effect.flatMap(WebApi, (api) => api.join(more))

  /** The arguments that run these steps in the memory provider's shell. */
  const steps = (...steps: ReadonlyArray<Step>) => {
    const { args, command } = asSteps(...steps)
    return ["--", command, ...args]
  }

  it.effect("runs a command in a new sandbox with its output, errors and exit code", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const out = Step.Print({ text: "out\n", to: "stdout" })
      const err = Step.Print({ text: "err\n", to: "stderr" })
      const said = yield* castellan(["sandboxes", "create", ...steps(out, err, Step.Exit({ code: 7 }))], { key })
      assert.deepStrictEqual([said.exit, said.stdout], [7, "out\n"])
      assert.match(said.stderr, /^castellan: sbx_\w+ runs run_\w+\nerr\n$/)
    })
  )

  it.effect("passes a prompt to the agent", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const said = yield* castellan(["sandboxes", "create", "--prompt", "say hi; rm -rf /"], { key })
      assert.deepStrictEqual([said.exit, said.stdout], [0, "prompted: say hi; rm -rf /\n"])
    })
  )

  it.effect("does not follow a run with --no-follow, and can follow it later", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const made = yield* castellan(["sandboxes", "create", "--no-follow", "--", "echo", "later"], { key })
      assert.strictEqual(made.exit, 0)
      const run = /^run +(run_\w+)$/m.exec(made.stdout)![1]!
      const followed = yield* castellan(["runs", "logs", "-f", run], { key })
      assert.deepStrictEqual([followed.exit, followed.stdout, followed.stderr], [0, "later\n", ""])
      const listed = yield* castellan(["runs", "list"], { key })
      assert.match(
        listed.stdout,
        new RegExp(`^RUN +TASK +STATUS +CREATED +TOOK\n${run} +run-sandbox-command +COMPLETED `)
      )
      const shown = yield* castellan(["runs", "get", run], { key })
      assert.match(shown.stdout, /^exit code {2}0$/m)
      const events = yield* castellan(["runs", "logs", run, "--json"], { key })
      assert.strictEqual(
        events.stdout,
        '{"stream":"stdout","text":"later\\n"}\n{"status":"COMPLETED","exitCode":0,"truncated":false}\n'
      )
    })
  )

  it.effect("prints the API's JSON response with --json, as one document", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      yield* castellan(["sandboxes", "create"], { key })
      const api = yield* WebApi
      const { text } = yield* api.ask("GET", "/api/sandboxes", { key })
      for (const args of [
        ["sandboxes", "list", "--json"],
        ["--json", "sandboxes", "list"]
      ]) {
        const said = yield* castellan(args, { key })
        assert.deepStrictEqual([said.exit, said.stdout, said.stderr], [0, `${text}\n`, ""])
      }
      const refused = yield* castellan(["runs", "get", "run_1", "--json"], { key })
      assert.deepStrictEqual([refused.exit, refused.stderr], [4, "castellan: Task run not found\n"])
      assert.strictEqual(JSON.parse(refused.stdout).code, "task_run_not_found")
    })
  )

  it.effect("lists one page and says that there are more, or lists all pages with --all", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      for (let i = 0; i < 5; i++) yield* castellan(["sandboxes", "create"], { key })
      const ids = (text: string) => text.match(/sbx_\w+/g)?.length
      const some = yield* castellan(["sandboxes", "list", "--limit", "2"], { key })
      assert.deepStrictEqual([ids(some.stdout), some.stderr], [2, "castellan: there are more: --all lists them all\n"])
      const all = yield* castellan(["sandboxes", "list", "--limit", "2", "--all"], { key })
      assert.deepStrictEqual([ids(all.stdout), all.stderr], [5, ""])
      const json = yield* castellan(["sandboxes", "list", "--limit", "2", "--all", "--json"], { key })
      const document = JSON.parse(json.stdout)
      assert.deepStrictEqual([document.sandboxes.length, document.next_cursor], [5, undefined])
    })
  )

  it.effect("prints a message for an empty list", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const said = yield* castellan(["runs", "list"], { key })
      assert.deepStrictEqual([said.exit, said.stdout, said.stderr], [0, "", "castellan: no runs\n"])
    })
  )

  it.effect("creates, lists and revokes API keys", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const made = yield* castellan(["keys", "create", "ci", "--expires-at", "2100-01-31T12:00:00Z"], { key })
      const [, id, expires, secret] = /^id +(\S+)\nname +ci\nexpires +(\S+)\nkey +(\S+)\n$/.exec(made.stdout)!
      assert.strictEqual(expires, "2100-01-31T12:00:00.000Z")
      assert.strictEqual(made.stderr, "castellan: the key is shown only once\n")
      const listed = yield* castellan(["keys", "list"], { key: secret! })
      assert.include(listed.stdout, id!)
      const deleted = yield* castellan(["keys", "delete", id!], { key })
      assert.deepStrictEqual([deleted.exit, deleted.stdout], [0, `${id} is deleted\n`])
      const refused = yield* castellan(["keys", "list"], { key: secret! })
      assert.strictEqual(refused.exit, 3)
      assert.match(refused.stderr, /^castellan: Unauthorized \(is CASTELLAN_API_KEY .*\)\n$/)
    })
  )

  it.effect("lets a platform admin create accounts and act for them with --account", () =>
    Effect.gen(function* () {
      const admin = yield* join({ platformAdmin: true })
      const made = yield* castellan(["accounts", "create", "--name", "Ada", "--json"], admin)
      const { id, name } = JSON.parse(made.stdout).account
      assert.strictEqual(name, "Ada")
      const issued = yield* castellan(["keys", "create", "first", "--account", id, "--json"], admin)
      const { key } = JSON.parse(issued.stdout)
      yield* castellan(["sandboxes", "create"], { key })
      const listed = yield* castellan(["sandboxes", "list", "--account", id], admin)
      assert.match(listed.stdout, /^sbx_\w+ +running +30 min /m)
      const totals = yield* castellan(["accounts", "list", "--all"], admin)
      assert.match(totals.stdout, new RegExp(`^${id} +- +1 +\\d{4}-\\S+$`, "m"))
      const refused = yield* castellan(["accounts", "create"], { key })
      assert.deepStrictEqual([refused.exit, refused.stderr], [3, "castellan: Forbidden\n"])
    })
  )

  it.effect("reports each error with one line on standard error and an exit code", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const cases: ReadonlyArray<readonly [args: string, exit: number, say: RegExp]> = [
        ["runs get run_00000000000000000000", 4, /^Task run not found$/],
        ["keys list --account 00000000-0000-4000-8000-000000000000", 3, /^Access denied to specified account_id$/],
        ["keys list --account me", 1, /^account_id must be a valid UUID$/],
        ["sandboxes list --limit 1000", 1, /^limit must be an integer between 1 and 100$/],
        ["sandboxes list --limit many", 2, /--limit.*castellan sandboxes list --help/],
        ["sandboxes create --prompt x -- ls", 2, /can't be combined/],
        ["sandboxes crate", 2, /Unknown subcommand "crate".*create/],
        ["keys create", 2, /Missing required argument: NAME/],
        ["keys delete ..", 2, /letters, digits/],
        ["sandboxes stop .", 2, /letters, digits/],
        ["health --url localhost", 2, /^--url is "localhost"; it must be a URL such as http:\/\/localhost:3000$/]
      ]
      for (const [args, exit, say] of cases) {
        const said = yield* castellan(args.split(" "), { key })
        const [line, ...rest] = said.stderr.trimEnd().split("\n")
        assert.deepStrictEqual([said.exit, said.stdout, rest], [exit, "", []], `${args}: ${said.stderr}`)
        assert.match(line!.replace(/^castellan: /, ""), say, args)
      }
    })
  )

  it.effect("explains how to set a missing API key, and never prints a key", () =>
    Effect.gen(function* () {
      const said = yield* castellan(["sandboxes", "list"])
      assert.strictEqual(said.exit, 3)
      assert.match(said.stderr, /^castellan: no API key: set CASTELLAN_API_KEY /)
      const { exit, stdout } = yield* castellan(["health"])
      assert.deepStrictEqual([exit, stdout], [0, "ready, sandboxes by memory (none)\n"])
      const odd = yield* castellan(["sandboxes", "list"], { key: "two words" })
      assert.strictEqual(odd.exit, 2)
      assert.notInclude(odd.stderr, "two words")
    })
  )

  it.effect("shows help with an example for every command, and the exit codes for the root", () =>
    Effect.gen(function* () {
      const nouns = ["accounts", "keys", "sandboxes", "runs", "health"]
      const top = yield* castellan(["--help"])
      assert.match(top.stdout, /Exit codes:[^]*3 .*key[^]*USAGE/)
      for (const noun of nouns) {
        const help = yield* castellan([noun, "--help"])
        assert.deepStrictEqual([help.exit, help.stderr], [0, ""])
        assert.match(help.stdout, /EXAMPLES\n {2}castellan /)
        const verbs = /SUBCOMMANDS\n([^]*?)EXAMPLES/.exec(help.stdout)?.[1]?.match(/^ {2}\w+/gm) ?? []
        for (const verb of verbs) {
          const { stdout } = yield* castellan([noun, verb.trim(), "--help"])
          assert.match(stdout, new RegExp(`EXAMPLES\n {2}castellan ${noun} ${verb.trim()}`), `${noun} ${verb}`)
        }
      }
    })
  )

  it("has the exit codes that docs/command-line.md documents", () => {
    const text = readFileSync(new URL("../../../docs/command-line.md", import.meta.url), "utf8")
    const rows = Array.from(
      text.matchAll(/^\| (\d+) +\| (.*?) +\|$/gm),
      ([, code, meaning]) => [Number(code), meaning] as const
    )
    assert.deepStrictEqual<unknown>(rows, meanings)
  })
})
