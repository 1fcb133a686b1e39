/** Setups of a server's own process, with real sandboxes, real git and a real database: killed, and searched for secrets. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as GitHubEmulator from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { dataDirectory, killed, listening } from "./serverProcess.ts"

type Json = any

/** What may be gone when it is looked at. */
const ifThere = <A>(read: () => ReadonlyArray<A>): ReadonlyArray<A> => {
  try {
    return read()
  } catch {
    return []
  }
}

const entries = (...path: ReadonlyArray<string>) => ifThere(() => readdirSync(join(...path)))

/** All files below a directory, as they are on the disk. */
const filesBelow = (directory: string): ReadonlyArray<string> =>
  ifThere(() => readdirSync(directory, { withFileTypes: true })).flatMap((entry) => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return filesBelow(path)
    return entry.isFile() ? [path] : []
  })

/** A client of a server, which remembers all that it was answered. */
const clientOf = ({ key, url }: { readonly url: string; readonly key: string }, heard: Array<string> = []) => {
  const ask = (method: string, path: string, body?: unknown) =>
    Effect.promise(async (): Promise<Json> => {
      const headers = { "x-api-key": key, "content-type": "application/json" }
      const init: RequestInit = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
      const response = await fetch(`${url}${path}`, init)
      const text = await response.text()
      heard.push(text, JSON.stringify([...response.headers]))
      return JSON.parse(text)
    })
  const run = (id: string, of = "") =>
    Effect.map(ask("GET", `/api/tasks/runs?runId=${id}${of}`), ({ runs }): Json => runs[0])
  return { ask, run }
}

type Client = ReturnType<typeof clientOf>

/** Looks again and again until there is something. */
const until = <A, E, R>(look: Effect.Effect<A | undefined, E, R>) =>
  look.pipe(
    Effect.flatMap((found) => (found === undefined ? Effect.fail("not yet") : Effect.succeed(found))),
    Effect.retry({ schedule: Schedule.spaced("10 millis"), times: 6000 })
  )

/** The run once it has ended. */
const ended = ({ run }: Client, id: string, of = "") =>
  until(Effect.map(run(id, of), (one) => (["COMPLETED", "FAILED", "CANCELED"].includes(one.status) ? one : undefined)))

/** A directory for a server's data, beside one for what it writes for a moment. */
const places = Effect.map(dataDirectory, (data) => {
  const temporary = join(data, "temporary")
  mkdirSync(temporary, { recursive: true })
  const local = (...path: ReadonlyArray<string>) => join(data, "local", ...path)
  return {
    data,
    temporary,
    environment: { CASTELLAN_DATA_DIR: data, TMPDIR: temporary, CASTELLAN_ADMIN_KEY: "key-of-the-admin-of-a-test" },
    sandboxes: () => entries(local("sandboxes")),
    /** Those that were written whole. */
    snapshots: () => entries(local("snapshots")).filter((name) => name.endsWith(".json")),
    repositories: () => entries(data, "repositories", "castellan"),
    hasMain: (name: string) => existsSync(join(data, "repositories", "castellan", name, "refs/heads/main")),
    workspaces: () => entries(temporary).filter((name) => name.startsWith("castellan-git-")),
    /** The sandboxes whose first process lives. */
    awake: () =>
      entries(local("sandboxes")).filter((name) =>
        ifThere(() => [readFileSync(local("sandboxes", name, "init"), "utf8")]).some((line) =>
          existsSync(`/proc/${Number.parseInt(line, 10)}`)
        )
      )
  }
})

const key = "key-of-the-admin-of-a-test"

describe("Setups whose server is killed", () => {
  it.live(
    "at any moment go on with the next one: a repository and a snapshot each, no sandbox that runs, nothing left behind",
    () =>
      Effect.gen(function* () {
        const place = yield* places
        const start = Effect.map(listening(place.environment), (server) => ({
          server,
          client: clientOf({ url: server.url, key })
        }))
        let { client, server } = yield* start
        const others = yield* Effect.forEach([1, 2], (n) => client.ask("POST", "/api/accounts", { name: `other ${n}` }))
        // Several at once, so that each end of the server finds them at different moments.
        const queries = ["", ...others.map(({ account }) => `&account_id=${account.id}`)]
        const bodies = [{}, ...others.map(({ account }) => ({ account_id: account.id }))]
        const begun = yield* Effect.forEach(bodies, (body) => client.ask("POST", "/api/sandboxes/setup", body))
        const runIds: ReadonlyArray<string> = begun.map(({ runId }) => runId)
        const pushed = () => place.repositories().filter((name) => place.hasMain(name)).length
        /** From the first to the last; a moment is over once a later one has come. */
        const moments: ReadonlyArray<(run: Json) => boolean> = [
          (run) => run.status !== "QUEUED",
          () => place.workspaces().length > 0,
          () => pushed() > 0,
          () => place.snapshots().length > 0,
          (run) => run.metadata.currentStep === "Stopping the sandbox"
        ]
        for (const index of moments.keys()) {
          yield* until(
            Effect.map(client.run(runIds[0]!), (run) =>
              run.status === "COMPLETED" || moments.slice(index).some((has) => has(run)) ? true : undefined
            )
          )
          yield* killed(server)
          ;({ client, server } = yield* start)
        }
        const saved: Array<string> = []
        for (const [index, runId] of runIds.entries()) {
          const run = yield* ended(client, runId, queries[index])
          assert.strictEqual(run.status, "COMPLETED", JSON.stringify(run))
          const list = yield* client.ask("GET", `/api/sandboxes?limit=10${queries[index]}`)
          assert.deepStrictEqual(run.output, { githubRepo: list.github_repo, snapshotId: list.snapshot_id })
          assert.deepStrictEqual(
            list.filetree.map(({ path }: Json) => path),
            ["README.md"]
          )
          assert.deepStrictEqual(
            list.sandboxes.map(({ sandboxStatus }: Json) => sandboxStatus),
            ["stopped"]
          )
          saved.push(`${list.snapshot_id}.json`)
        }
        assert.strictEqual(place.repositories().length, 3)
        assert.deepStrictEqual(place.snapshots().toSorted(), saved.toSorted())
        assert.deepStrictEqual([place.awake(), place.workspaces()], [[], []])

        // And while all that one of them has is being deleted.
        for (let n = 0; n < 3; n++) {
          yield* client.ask("POST", "/api/sandboxes", { command: "sleep", args: ["600"] })
        }
        for (const has of [() => place.sandboxes().length < 6, () => place.repositories().length < 3]) {
          const deleting = fetch(`${server.url}/api/sandboxes`, { method: "DELETE", headers: { "x-api-key": key } })
          deleting.catch(() => undefined)
          yield* until(Effect.sync(() => (has() ? true : undefined)))
          yield* killed(server)
          ;({ client, server } = yield* start)
        }
        assert.strictEqual((yield* client.ask("DELETE", "/api/sandboxes")).status, "success")
        const left = [place.sandboxes(), place.snapshots(), place.repositories()]
        assert.deepStrictEqual(
          left.map(({ length }) => length),
          [2, 2, 2]
        )
        assert.deepStrictEqual(place.awake(), [])
        const after = yield* client.ask("GET", "/api/sandboxes")
        assert.deepStrictEqual([after.snapshot_id, after.github_repo, after.filetree], [null, null, null])
        assert.deepStrictEqual(
          new Set(after.sandboxes.map(({ sandboxStatus }: Json) => sandboxStatus)),
          new Set(["stopped"])
        )
      }).pipe(Effect.scoped),
    180_000
  )
})

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
        const again = "The repository host could not be reached, or refused; trying again"
        const messages = run.metadata.logs.map(({ message }: Json) => message)
        assert.strictEqual(messages.filter((message: string) => message === again).length, 3, messages.join("\n"))
        assert.isTrue([...lines].some((line) => line.includes("git") && line.includes(github.url)))
        assert.strictEqual(github.repositories().length, 1)
        assert.isTrue(github.repositories()[0]!.private)

        const script = `env; id; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'
          find / -xdev -type f -newer /proc/1 ! -path '/proc/*' -exec cat {} + 2> /dev/null
          git config --list; git remote -v; git cat-file --batch-all-objects --batch`
        const made = yield* client.ask("POST", "/api/sandboxes", { command: "sh", args: ["-c", script] })
        const seen = yield* ended(client, made.sandboxes[0].runId)
        assert.include(seen.output.stdout, "HOME=/home/user")
        assert.include(seen.output.stdout, "Update sandbox files")
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
        assert.include(server.said(), "a setup did not work out")
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
