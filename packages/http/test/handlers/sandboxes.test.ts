import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { asSteps, Step } from "@castellan/testkit/Program.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

/** The events of a stream, as pairs of name and data. */
const eventsOf = (text: string) =>
  text
    .split("\n\n")
    .map((block) => ({
      event: /^event: (.*)$/m.exec(block)?.[1],
      data: /^data: (.*)$/m.exec(block)?.[1],
      id: /^id: (.*)$/m.exec(block)?.[1]
    }))
    .filter(({ event }) => event !== undefined)
    .map(({ data, event, id }) => ({ event, id, data: JSON.parse(data!) }))

layer(WebApi.layer)("Sandboxes over HTTP", (it) => {
  const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))
  const join = (more?: { readonly platformAdmin?: boolean }) => Effect.flatMap(WebApi, (api) => api.join(more))

  it.effect("are created running, with their remaining time", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const { json, status } = yield* ask("POST", "/api/sandboxes", { key, body: {} })
      assert.strictEqual(status, 200)
      const [sandbox] = json.sandboxes
      assert.match(sandbox.sandboxId, /^sbx_[a-z0-9]{20}$/)
      assert.strictEqual(sandbox.sandboxStatus, "running")
      assert.strictEqual(sandbox.timeout, 30 * 60 * 1000)
      assert.match(sandbox.createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/)
      assert.isUndefined(sandbox.runId)
      assert.deepStrictEqual(
        { status: json.status, snapshot_id: json.snapshot_id, github_repo: json.github_repo, filetree: json.filetree },
        { status: "success", snapshot_id: null, github_repo: null, filetree: null }
      )
      yield* TestClock.adjust("1 minute")
      const [later] = (yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes
      assert.strictEqual(later.timeout, 29 * 60 * 1000)
      yield* TestClock.adjust("30 minutes")
      const [expired] = (yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes
      assert.deepStrictEqual([expired.sandboxStatus, expired.timeout], ["stopped", 0])
    })
  )

  it.effect("are listed newest first, in pages, only of the own account", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const stranger = yield* join()
      yield* ask("POST", "/api/sandboxes", { key: stranger.key })
      const made: Array<string> = []
      for (let i = 0; i < 5; i++) {
        yield* TestClock.adjust("1 second")
        made.unshift((yield* ask("POST", "/api/sandboxes", { key })).json.sandboxes[0].sandboxId)
      }
      const first = yield* ask("GET", "/api/sandboxes?limit=3", { key })
      const second = yield* ask("GET", `/api/sandboxes?limit=3&cursor=${first.json.next_cursor}`, { key })
      const ids = [...first.json.sandboxes, ...second.json.sandboxes].map(
        ({ sandboxId }: { sandboxId: string }) => sandboxId
      )
      assert.deepStrictEqual(ids, made)
      assert.isUndefined(second.json.next_cursor)
      const one = yield* ask("GET", `/api/sandboxes?sandbox_id=${made[2]}`, { key })
      assert.deepStrictEqual(one.json.sandboxes.length, 1)
      for (const id of [made[0], "sbx_unknown", "../../etc", "%20"]) {
        const foreign = yield* ask("GET", `/api/sandboxes?sandbox_id=${id}`, { key: stranger.key })
        assert.deepStrictEqual([foreign.status, foreign.json.sandboxes], [200, []])
      }
    })
  )

  it.effect("are listed with one call of the provider, whatever their number", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const provider = yield* MemorySandboxes
      for (let i = 0; i < 20; i++) yield* ask("POST", "/api/sandboxes", { key })
      const before = provider.calls()
      yield* ask("GET", "/api/sandboxes", { key })
      assert.strictEqual(provider.calls() - before, 1)
    })
  )

  it.effect("run a command, whose run has its output and exit code", () =>
    Effect.gen(function* () {
      const { account, key } = yield* join()
      const body = { command: "echo", args: ["hello", "world"] }
      const { runId } = (yield* ask("POST", "/api/sandboxes", { key, body })).json.sandboxes[0]
      assert.match(runId, /^run_/)
      const log = yield* ask("GET", `/api/tasks/runs/${runId}/logs`, { key })
      assert.strictEqual(log.headers.get("content-type"), "text/event-stream")
      assert.deepStrictEqual(eventsOf(log.text), [
        { event: "output", id: "12.0", data: { stream: "stdout", text: "hello world\n" } },
        { event: "exit", id: undefined, data: { status: "COMPLETED", exitCode: 0, truncated: false } }
      ])
      const { json, status } = yield* ask("GET", `/api/tasks/runs?runId=${runId}`, { key })
      assert.strictEqual(status, 200)
      const [run] = json.runs
      assert.deepStrictEqual(
        {
          id: run.id,
          task: run.taskIdentifier,
          status: run.status,
          output: run.output,
          tags: run.tags,
          attempt: run.attempt
        },
        {
          id: runId,
          task: "run-sandbox-command",
          status: "COMPLETED",
          output: { stdout: "hello world\n", stderr: "", exitCode: 0, truncated: false },
          tags: [`account:${account.id}`],
          attempt: 1
        }
      )
      const resumed = yield* ask("GET", `/api/tasks/runs/${runId}/logs`, { key, headers: { "last-event-id": "6.0" } })
      assert.deepStrictEqual(eventsOf(resumed.text)[0]?.data, { stream: "stdout", text: "world\n" })
    })
  )

  it.effect("run a prompt through the configured agent, as one argument", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const body = { prompt: "create a $(page) 'now'; rm -rf /" }
      const { runId } = (yield* ask("POST", "/api/sandboxes", { key, body })).json.sandboxes[0]
      yield* ask("GET", `/api/tasks/runs/${runId}/logs`, { key })
      const [run] = (yield* ask("GET", `/api/tasks/runs?runId=${runId}`, { key })).json.runs
      assert.strictEqual(run.output.stdout, "prompted: create a $(page) 'now'; rm -rf /\n")
    })
  )

  it.effect("run a command or a prompt with its environment, directory and timeout", () =>
    Effect.gen(function* () {
      const api = yield* WebApi
      const { key } = yield* api.join()
      const runOf = Effect.fnUntraced(function* (body: object) {
        const { json } = yield* api.ask("POST", "/api/sandboxes", { key, body })
        const { runId } = json.sandboxes[0]
        const following = yield* Effect.forkChild(api.ask("GET", `/api/tasks/runs/${runId}/logs`, { key }))
        while (following.pollUnsafe() === undefined) yield* TestClock.adjust("1 second")
        return (yield* api.ask("GET", `/api/tasks/runs?runId=${runId}`, { key })).json.runs[0]
      })
      const { args, command } = asSteps(Step.PrintVariable({ name: "NAME" }))
      for (const work of [{ command, args }, { prompt: args[0] }]) {
        const env = { NAME: "variable" }
        assert.strictEqual((yield* runOf({ ...work, env })).output.stdout, "variable")
        assert.strictEqual((yield* runOf({ ...work, cwd: "/nowhere" })).error.code, "cwd_not_found")
      }
      assert.strictEqual((yield* runOf({ command: "sleep", args: ["60"], timeoutMs: 2000 })).status, "TIMED_OUT")
    }).pipe(Effect.provide(Layer.fresh(WebApi.layerWith({ agent: ["steps"] }))))
  )

  it.effect("refuse the options of a command without a command", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      for (const [field, value] of Object.entries({ env: { A: "1" }, timeoutMs: 1000 })) {
        const { json, status } = yield* ask("POST", "/api/sandboxes", { key, body: { [field]: value } })
        assert.deepStrictEqual(
          [status, json.error, json.missing_fields],
          [400, `${field} must come with a command or a prompt`, [field]]
        )
      }
    })
  )

  it.effect("fail a run whose program does not exist, with a code, a sentence and no output", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const { runId } = (yield* ask("POST", "/api/sandboxes", { key, body: { command: "no-such-program" } })).json
        .sandboxes[0]
      yield* ask("GET", `/api/tasks/runs/${runId}/logs`, { key })
      const [run] = (yield* ask("GET", `/api/tasks/runs?runId=${runId}`, { key })).json.runs
      const error = { code: "command_not_found", message: 'The sandbox has no program named "no-such-program"' }
      assert.deepStrictEqual([run.status, run.output, run.error], ["FAILED", undefined, error])
    })
  )

  it.effect("have runs that can be canceled repeatedly", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const { runId } = (yield* ask("POST", "/api/sandboxes", { key, body: { command: "sleep", args: ["600"] } })).json
        .sandboxes[0]
      for (let i = 0; i < 2; i++) {
        const { json, status } = yield* ask("POST", `/api/tasks/runs/${runId}/cancel`, { key })
        assert.deepStrictEqual([status, json.run.status], [200, "CANCELED"])
      }
      const log = yield* ask("GET", `/api/tasks/runs/${runId}/logs`, { key })
      assert.deepStrictEqual(eventsOf(log.text).at(-1)?.data.status, "CANCELED")
    })
  )

  it.effect("answer another account's run like an unknown one", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const stranger = yield* join()
      const { runId } = (yield* ask("POST", "/api/sandboxes", { key, body: { command: "echo" } })).json.sandboxes[0]
      const notFound = { status: "error", success: false, error: "Task run not found", code: "task_run_not_found" }
      for (const id of [runId, "run_unknown", "not-an-id"]) {
        for (const [method, path] of [
          ["GET", `/api/tasks/runs?runId=${id}`],
          ["GET", `/api/tasks/runs/${id}/logs`],
          ["POST", `/api/tasks/runs/${id}/cancel`]
        ] as const) {
          const answer = yield* ask(method, path, { key: stranger.key })
          assert.deepStrictEqual([answer.status, answer.json], [404, notFound])
        }
      }
      assert.deepStrictEqual((yield* ask("GET", "/api/tasks/runs", { key: stranger.key })).json.runs, [])
      assert.strictEqual((yield* ask("GET", "/api/tasks/runs", { key })).json.runs.length, 1)
    })
  )

  it.effect("can be created for any account only by a platform admin", () =>
    Effect.gen(function* () {
      const owner = yield* join()
      const admin = yield* join({ platformAdmin: true })
      const stranger = yield* join()
      const own = yield* ask("POST", "/api/sandboxes", { key: owner.key, body: { account_id: owner.account.id } })
      assert.strictEqual(own.status, 200)
      const made = yield* ask("POST", "/api/sandboxes", { key: admin.key, body: { account_id: owner.account.id } })
      assert.strictEqual(made.status, 200)
      assert.strictEqual((yield* ask("GET", "/api/sandboxes", { key: owner.key })).json.sandboxes.length, 2)
      const denied = {
        status: "error",
        success: false,
        error: "Access denied to specified account_id",
        code: "access_denied"
      }
      const nobody = "00000000-0000-4000-8000-00000000dead"
      for (const [key, account_id] of [
        [stranger.key, owner.account.id],
        [stranger.key, nobody],
        [admin.key, nobody]
      ] as const) {
        const answer = yield* ask("POST", "/api/sandboxes", { key, body: { account_id } })
        assert.deepStrictEqual([answer.status, answer.json], [403, denied])
        assert.strictEqual((yield* ask("GET", `/api/sandboxes?account_id=${account_id}`, { key })).status, 403)
      }
    })
  )
})
