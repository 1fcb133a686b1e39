/** A setup of a server's own process, with real sandboxes, real git and a real database, searched for secrets. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as GitHubEmulator from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { listening } from "../server/serverProcess.ts"
import { type Json, ifThere, filesBelow, clientOf, until, ended, places, key } from "./setupPlaces.ts"

const token = "token-for-tests-of-setups"
const base64 = (text: string) => Buffer.from(text).toString("base64")
const forms = [token, base64(token), base64(`x-access-token:${token}`)]

describe("The token for repositories", () => {
  it.live(
    "is nowhere but in what is sent to their host: in no file, no sandbox, no log, no answer, no process' arguments",
    () =>
      Effect.gen(function* () {
        const place = yield* places
        const github = yield* GitHubEmulator.start({ token })
        const heard: Array<string> = []
        const server = yield* listening({
          ...place.environment,
          GITHUB_TOKEN: token,
          GITHUB_ORG: github.organization,
          GITHUB_URL: github.url,
          GITHUB_API_URL: github.apiUrl
        })
        const client = clientOf({ url: server.url, key }, heard)
        // It fails first, and is told the token by the host; then it is to wait, once by REST and once by git.
        github.faults.plan({ kind: "status", status: 500, message: forms.join(" ") })
        github.faults.plan(
          { kind: "rateLimited", status: 403, resetInSeconds: 2 },
          { method: "POST", path: /^\/orgs\// }
        )
        github.faults.plan({ kind: "rateLimited", status: 429, resetInSeconds: 1 }, { path: /info\/refs/ })
        github.faults.plan({ kind: "slow", ms: 50 }, { times: 1000 })
        const { runId } = yield* client.ask("POST", "/api/sandboxes/setup")
        const lines = new Set<string>()
        const watch = Effect.sync(() => {
          for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
            for (const line of ifThere(() => [readFileSync(`/proc/${pid}/cmdline`, "latin1")])) lines.add(line)
          }
        })
        const run = yield* Effect.raceFirst(
          ended(client, runId),
          Effect.forever(Effect.andThen(watch, Effect.sleep("10 millis")))
        )
        assert.strictEqual(run.status, "COMPLETED", JSON.stringify(run))
        const again = "The repository host could not be reached; trying again"
        const messages = run.metadata.logs.map(({ message }: Json) => message)
        assert.strictEqual(messages.filter((message: string) => message === again).length, 3, messages.join("\n"))
        assert.isTrue([...lines].some((line) => line.includes("git") && line.includes(github.url)))
        assert.strictEqual(github.repositories().length, 1)
        assert.isTrue(github.repositories()[0]!.private)

        const script = `env; id; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'
          find / -xdev -type f -newer /proc/1 ! -path '/proc/*' -exec cat {} + 2> /dev/null
          cd workspace; git config --list; git remote -v; git cat-file --batch-all-objects --batch`
        const made = yield* client.ask("POST", "/api/sandboxes", { command: "sh", args: ["-c", script] })
        const seen = yield* ended(client, made.sandboxes[0].runId)
        assert.include(seen.output.stdout, "HOME=/home/user")
        assert.include(seen.output.stdout, "Update the workspace")
        for (const path of ["/api/sandboxes", "/api/tasks/runs", "/api/sandboxes/file?path=README.md", "/api/keys"]) {
          yield* client.ask("GET", path)
        }
        yield* client.ask("PATCH", "/api/sandboxes", {})

        const isFree = (text: string, where: string) => {
          for (const form of forms) assert.isFalse(text.includes(form), `it is in ${where}`)
        }
        isFree(heard.join("\n"), "an answer")
        isFree([...lines].join("\n"), "a process' arguments")
        isFree(server.said(), "the log")
        assert.include(server.said(), "Failed to run setup")
        server.child.kill("SIGTERM")
        yield* until(Effect.sync(() => (server.child.exitCode === null ? undefined : true)))
        const files = filesBelow(place.data)
        assert.isTrue(files.some((file) => file.endsWith(".git/refs/castellan/theirs")))
        for (const file of files) isFree(readFileSync(file, "latin1"), file)
        // What a table keeps compressed is to be seen, too.
        const rows = yield* Effect.scoped(everyRow(join(place.data, "postgres")))
        assert.include(rows, runId)
        isFree(rows, "the database")
        assert.isTrue(
          github.requests.some(({ headers }) => forms.some((form) => headers.authorization?.includes(form)))
        )
      }).pipe(Effect.scoped),
    120_000
  )
})

/** All that a database holds, as text. */
const everyRow = (directory: string) =>
  Effect.gen(function* () {
    const { engine } = yield* Db.Db
    if (engine._tag !== "PGlite") return yield* Effect.die(new Error("not the embedded database"))
    const { pglite } = engine
    const all = yield* Effect.promise(() =>
      pglite.query<{ name: string }>(
        `select format('%I.%I', schemaname, tablename) as name from pg_tables
         where schemaname not in ('pg_catalog', 'information_schema')`
      )
    )
    const texts = yield* Effect.forEach(all.rows, ({ name }) =>
      Effect.promise(() => pglite.query<{ row: string }>(`select t::text as row from ${name} t`))
    )
    return texts.flatMap(({ rows }) => rows.map(({ row }) => row)).join("\n")
  }).pipe(Effect.provide(Db.layerPglite({ directory })))
