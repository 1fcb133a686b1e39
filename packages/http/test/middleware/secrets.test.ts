/** Puts secrets into every input and every cause, and searches all output for them. */
import * as Db from "@castellan/adapters/postgres/Db.ts"
import * as Stores from "@castellan/adapters/postgres/stores.ts"
import * as PgBossTaskRunner from "@castellan/adapters/tasks/PgBossTaskRunner.ts"
import { RepoHost, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import * as Logs from "../../src/server/Logs.ts"
import * as Telemetry from "../../src/server/Telemetry.ts"
import { asSteps, Step } from "@castellan/testkit/Program.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Metric, Redacted, References } from "effect"
import { HttpMiddleware } from "effect/http"
import { mkdtemp, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join as pathOf } from "node:path"
import { collector } from "../server/collector.ts"
import { until } from "../crashes/setupPlaces.ts"
import { WebApi } from "../WebApi.ts"

type Place = "answers" | "logs" | "collector" | "database"

/** Outputs that may contain a secret, with the reason. */
const allowed: Record<string, ReadonlyArray<readonly [Place, string]>> = {
  issued: [["answers", "a new key is shown once, to who asked for it"]],
  args: [["database", "a command's own row is its owner's: it is started from there, also after a crash"]],
  env: [["database", "a command's own row is its owner's: it is started from there, also after a crash"]],
  prompt: [["database", "a command's own row is its owner's: it is started from there, also after a crash"]],
  output: [
    ["answers", "a command's output is its owner's"],
    ["database", "the end of a command's output is kept in its own row"]
  ],
  file: [["answers", "a file is its owner's, who asks for it"]],
  idempotency: [["database", "the account's own name for a request, by which it is found again"]],
  title: [
    ["answers", "a key's name is its owner's"],
    ["database", "a key's name is its owner's"]
  ],
  providerSays: [["logs", "what an upstream said is for who runs the server; what looks like a credential is cut out"]],
  hostSays: [["logs", "what an upstream said is for who runs the server; what looks like a credential is cut out"]],
  defect: [["logs", "a fault of ours is for who runs the server"]]
}

const marks: Record<string, string> = {
  ...Object.fromEntries(
    (
      "wrongKey bearer basic args env prompt output file idempotency title broken invalid path query agent defect " +
      "providerSays providerToken hostSays hostToken collectorKey"
    )
      .split(" ")
      .map((name) => [name, `mark-of-${name}-5b1f`])
  ),
  githubToken: "ghp_markofgithubtoken5b1f"
}

const secret = new Uint8Array(32).map((_, i) => 200 - i)
const forms = {
  secretInHex: Buffer.from(secret).toString("hex"),
  secretInBase64: Buffer.from(secret).toString("base64")
}

const says = (what: string, token: string) =>
  new Error(`${what} answered 401 to Authorization: Bearer ${token} of https://me:${token}@example.com`, {
    cause: { headers: { authorization: `token ${marks.githubToken}` } }
  })

describe("Secrets", () => {
  it.live("appear in no response, log line, span, metric or row except those of their owner", () =>
    Effect.gen(function* () {
      const collected = yield* collector
      const lines: Array<string> = []
      const answers: Array<string> = []
      const rows: Array<string> = []
      let broken: "no" | "refused" | "defect" = "no"
      const directory = yield* Effect.acquireRelease(
        Effect.promise(() => mkdtemp(pathOf(tmpdir(), "castellan-secrets-"))),
        (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
      )
      const database = Layer.orDie(Db.layerPglite({ directory: pathOf(directory, "data") }))
      const provider = Layer.effect(
        SandboxProvider,
        Effect.map(SandboxProvider, (real) => ({
          ...real,
          create: (spec) => {
            const cause = says(marks.providerSays!, marks.providerToken!)
            if (broken === "refused") return new SandboxUnavailable({ operation: "create", retryable: false, cause })
            return broken === "defect" ? Effect.die(new Error(marks.defect)) : real.create(spec)
          }
        }))
      )
      const host = Layer.effect(
        RepoHost,
        Effect.map(RepoHost, (real) => ({
          ...real,
          ensure: () =>
            new RepoUnavailable({
              operation: "ensure",
              retryable: false,
              retryAfterMs: null,
              cause: says(marks.hostSays!, marks.hostToken!)
            })
        }))
      )
      const ports = Layer.mergeAll(Stores.layer, Layer.orDie(PgBossTaskRunner.layer), provider, host).pipe(
        Layer.provideMerge(database)
      )
      const log = (format: Logs.LogFormat) =>
        Logs.logger({ format, secrets: [forms.secretInHex], write: (line) => lines.push(line) })
      const telemetry = Layer.mergeAll(
        Telemetry.layer({
          endpoint: collected.endpoint,
          headers: Redacted.make({ authorization: `Bearer ${marks.collectorKey}` })
        }),
        Logger.layer([log("readable"), log("json")]),
        Layer.succeed(References.MinimumLogLevel, "Debug"),
        Layer.succeed(HttpMiddleware.TracerDisabledWhen, () => true)
      ).pipe(Layer.provideMerge(Layer.succeed(Metric.MetricRegistry, new Map())))

      yield* Effect.gen(function* () {
        const api = yield* WebApi
        const { key } = yield* api.join()
        marks.key = key
        const ask = (method: string, path: string, more: Parameters<typeof api.ask>[2] = {}) =>
          Effect.tap(api.ask(method, path, { key, ...more }), ({ headers, text }) =>
            Effect.sync(() => answers.push(text, JSON.stringify([...headers])))
          )
        const stranger = (headers: Record<string, string>) => api.ask("GET", "/api/sandboxes", { headers })
        for (const headers of [
          { "x-api-key": marks.wrongKey! },
          { authorization: `Bearer ${marks.bearer}` },
          { authorization: `Basic ${marks.basic}` }
        ] as ReadonlyArray<Record<string, string>>) {
          answers.push((yield* stranger(headers)).text)
        }
        const issued = yield* ask("POST", "/api/keys", { body: { name: marks.title } })
        marks.issued = /cst_\w+/.exec(issued.text)![0]
        yield* ask("GET", "/api/keys")
        const steps = asSteps(Step.Print({ text: marks.output!, to: "stdout" }))
        const made = yield* ask("POST", "/api/sandboxes", { body: {}, headers: { "user-agent": marks.agent! } })
        const sandbox = `/api/sandboxes/${made.json.sandboxes[0].sandboxId}`
        const command = { ...steps, args: [...steps.args, marks.args], env: { SECRET: marks.env }, wait: true }
        yield* ask("POST", `${sandbox}/commands`, {
          body: command,
          headers: { "idempotency-key": marks.idempotency! }
        })
        yield* ask("POST", `${sandbox}/commands`, { body: { ...steps, wait: true } })
        yield* ask("POST", "/api/sandboxes", { body: { prompt: marks.prompt } })
        yield* Effect.promise(async () => {
          const headers = { "x-api-key": key, "content-type": "application/octet-stream" }
          const request = { method: "PUT", headers, body: marks.file! }
          const put = new Request(`http://castellan.test${sandbox}/file?path=file`, request)
          answers.push(await (await Effect.runPromise(api.fetch(put))).text())
        })
        yield* ask("GET", `${sandbox}/file?path=file`)
        yield* ask("GET", `${sandbox}/file?path=none&other=${marks.query}`)
        yield* ask("GET", `/api/sandboxes/sbx_${marks.path}`)
        yield* ask("GET", `/api/tasks/runs/${marks.path}/logs`)
        yield* ask("GET", `/api/tasks/runs/run_${marks.path!.replaceAll("-", "")}/logs`)
        yield* ask("GET", `/${marks.path}?key=${marks.query}`)
        yield* ask("POST", "/api/sandboxes", { body: `{"command":"${marks.broken}` })
        yield* ask("POST", "/api/sandboxes", { body: { command: 5, prompt: { text: marks.invalid } } })
        for (const how of ["refused", "defect"] as const) {
          broken = how
          assert.isAtLeast((yield* ask("POST", "/api/sandboxes", { body: {} })).status, 500)
        }
        broken = "no"
        const { runId } = (yield* ask("POST", "/api/sandboxes/setup", {})).json
        yield* until(
          Effect.map(ask("GET", `/api/tasks/runs?runId=${runId}`), ({ json }) =>
            json.runs[0].status === "FAILED" ? true : undefined
          )
        )
        const { engine } = yield* Db.Db
        assert(engine._tag === "PGlite")
        yield* Effect.promise(async () => {
          const tables = await engine.pglite.query<{ name: string }>(`
            select format('%I.%I', schemaname, tablename) as name from pg_tables
            where schemaname not in ('pg_catalog', 'information_schema')`)
          for (const { name } of tables.rows) {
            const found = await engine.pglite.query<{ row: string }>(`select to_jsonb(it)::text as row from ${name} it`)
            rows.push(...found.rows.map(({ row }) => `${name} ${row}`))
          }
        })
      }).pipe(Effect.provide(WebApi.over(ports, { secret: Redacted.make(secret) })), Effect.provide(telemetry))

      const places: Record<Place, string> = {
        answers: answers.join("\n"),
        logs: lines.join("\n"),
        collector: collected.text(),
        database: rows.join("\n")
      }
      for (const [place, text] of Object.entries(places)) assert.isAbove(text.length, 1000, place)
      const found = Object.entries({ ...marks, ...forms }).flatMap(([name, mark]) =>
        Object.entries(places).flatMap(([place, text]) => (text.includes(mark) ? [`${name} in ${place}`] : []))
      )
      const may = Object.entries(allowed).flatMap(([name, places]) => places.map(([place]) => `${name} in ${place}`))
      assert.deepStrictEqual(found.toSorted(), may.toSorted())
      for (const line of lines.filter((line) => line.startsWith("{"))) assert.isObject(JSON.parse(line))
      const access = lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line))
      const created = access.find(({ message, route }) => message === "request" && route === "/api/sandboxes")
      assert.hasAllKeys(created, ["timestamp", "level", "message", "method", "route", "status", "ms", "requestId"])
    }).pipe(Effect.scoped)
  )
})
