/** Requests that wait for a run, and what an account may have open at the same time. */
import { Repo, RepoName } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Duration, Effect, Fiber, Layer, Logger } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

const over = (options: Parameters<typeof WebApi.layerWith>[0]) =>
  Layer.fresh(WebApi.layerWith(options)).pipe(Layer.provideMerge(Logger.layer([])))

const api = over({})

const waiting = { command: "sleep", args: ["330"], wait: true }

/** An account with a running sandbox, and the path of its commands. */
const holder = Effect.gen(function* () {
  const { ask, join } = yield* WebApi
  const { key } = yield* join()
  const { json } = yield* ask("POST", "/api/sandboxes", { key })
  const commands = `/api/sandboxes/${json.sandboxes[0].sandboxId}/commands`
  const runs = Effect.map(ask("GET", "/api/tasks/runs", { key }), ({ json }) => json.runs)
  return { key, commands, runs }
})

/** Advances the clock by one second at a time until the effect completes, and returns the seconds. */
const timed = Effect.fnUntraced(function* <A, E, R>(work: Effect.Effect<A, E, R>) {
  const before = yield* Clock.currentTimeMillis
  const fiber = yield* Effect.forkChild(work)
  while (fiber.pollUnsafe() === undefined) {
    yield* TestClock.adjust("1 second")
    yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
  }
  const result = yield* Fiber.join(fiber)
  return { result, seconds: Math.round(((yield* Clock.currentTimeMillis) - before) / 1000) }
})

/** Runs everything that is due until the condition holds, without advancing the clock. */
const until = Effect.fnUntraced(function* <R>(holds: Effect.Effect<boolean, never, R>) {
  while (!(yield* holds)) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
})

describe("A request that waits for a run", () => {
  it.effect("gets the run's id after two minutes, and the run continues to its end", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { commands, key, runs } = yield* holder
      const { result, seconds } = yield* timed(ask("POST", commands, { key, body: waiting }))
      assert.deepStrictEqual([result.status, Object.keys(result.json)], [202, ["status", "runId"]])
      assert.isTrue(seconds >= 120 && seconds < 330, `answered after ${seconds} s`)
      const [run] = yield* runs
      assert.deepStrictEqual([run.id, run.status], [result.json.runId, "EXECUTING"])
      yield* timed(until(Effect.map(runs, ([run]) => run.status === "COMPLETED")))
    }).pipe(Effect.provide(api))
  )

  it.effect("gets the same response byte for byte when it is repeated with its idempotency key", () =>
    Effect.gen(function* () {
      const { ask } = yield* WebApi
      const { commands, key, runs } = yield* holder
      const keyed = ask("POST", commands, { key, body: waiting, headers: { "idempotency-key": "k1" } })
      const first = yield* timed(keyed)
      yield* timed(until(Effect.map(runs, ([run]) => run.status === "COMPLETED")))
      const second = yield* keyed
      assert.strictEqual(first.result.status, 202)
      assert.deepStrictEqual(
        [second.status, second.text, second.headers.get("idempotency-replayed")],
        [202, first.result.text, "true"]
      )
      assert.strictEqual((yield* runs).length, 1)
    }).pipe(Effect.provide(api))
  )

  it.effect("gets the run's id when it is repeated with its idempotency key after a disconnect", () =>
    Effect.gen(function* () {
      const { ask, fetch } = yield* WebApi
      const { commands, key, runs } = yield* holder
      const headers = { "x-api-key": key, "content-type": "application/json", "idempotency-key": "k1" }
      const init = { method: "POST", headers, body: JSON.stringify(waiting) }
      const first = yield* Effect.forkChild(fetch(new Request(`http://castellan.test${commands}`, init)))
      yield* until(Effect.map(runs, ([run]) => run?.status === "EXECUTING"))
      yield* Fiber.interrupt(first)
      const again = ask("POST", commands, { key, body: waiting, headers: { "idempotency-key": "k1" } })
      yield* until(Effect.map(again, ({ status }) => status !== 409))
      const answer = yield* again
      assert.deepStrictEqual([answer.status, answer.json.runId], [202, (yield* runs)[0].id])
      assert.strictEqual((yield* runs).length, 1)
    }).pipe(Effect.provide(api))
  )

  it.effect("waits for the configured time, also for a command in a session", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key } = yield* join()
      const host = yield* RepoHost
      const repo = new Repo({ owner: host.supports.owner, name: RepoName.make("waits") })
      yield* host.ensure(repo)
      const repoUrl = `${host.supports.url}/${repo.owner}/${repo.name}`
      const { json } = yield* ask("POST", "/api/sessions", { key, body: { repoUrl } })
      yield* ask("POST", "/api/sandbox", { key, body: { repoUrl, sessionId: json.session.id } })
      const { result, seconds } = yield* timed(
        ask("POST", `/api/sessions/${json.session.id}/commands`, { key, body: waiting })
      )
      assert.deepStrictEqual([result.status, Object.keys(result.json)], [202, ["status", "runId"]])
      assert.isTrue(seconds >= 5 && seconds < 120, `answered after ${seconds} s`)
    }).pipe(Effect.provide(over({ limits: { wait: Duration.seconds(5) } })))
  )
})

describe("Streams, waits and transfers of an account", () => {
  it.effect("are refused beyond their limit before they start, and accepted again once another ends", () =>
    Effect.gen(function* () {
      const { ask, askEndless, fetch, join } = yield* WebApi
      const { commands, key, runs } = yield* holder
      const stranger = yield* join()
      const file = commands.replace("/commands", "/file?path=a")
      const url = (path: string) => new Request(`http://castellan.test${path}`, { headers: { "x-api-key": key } })
      const open = [yield* fetch(url("/api/events")), yield* fetch(url("/api/events"))]
      assert.deepStrictEqual(
        open.map(({ status }) => status),
        [200, 200]
      )

      const bytes = { "content-type": "application/octet-stream" }
      const refused = [
        yield* ask("GET", "/api/events", { key }),
        yield* ask("GET", file, { key }),
        yield* ask("PUT", file, { key, body: "text", headers: bytes }),
        yield* ask("POST", commands, { key, body: waiting })
      ]
      for (const { headers, json, status } of refused) {
        assert.deepStrictEqual(
          [status, json.code, json.error],
          [
            429,
            "quota_exceeded",
            "The account has 2 streams, waits and transfers open at this server, which is as many as it may have"
          ]
        )
        assert.strictEqual(headers.get("retry-after"), "5")
      }
      assert.deepStrictEqual(yield* runs, [])
      assert.strictEqual((yield* ask("POST", commands, { key, body: { command: "true" } })).status, 202)
      assert.strictEqual((yield* askEndless("GET", "/api/events", { key: stranger.key })).status, 200)

      yield* Effect.promise(() => open[0]!.body!.cancel())
      for (let n = 0; n < 5; n++) {
        yield* until(Effect.map(askEndless("GET", "/api/events", { key }), ({ status }) => status === 200))
      }
      yield* Effect.promise(() => open[1]!.body!.cancel())
    }).pipe(Effect.provide(over({ limits: { streams: 2 } })))
  )
})
