import { SandboxProvider, type SandboxSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

layer(WebApi.layer)("API keys over HTTP", (it) => {
  const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))
  const join = (more?: { readonly platformAdmin?: boolean }) => Effect.flatMap(WebApi, (api) => api.join(more))

  it.effect("are not created with an expiry in the past", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const body = { name: "late", expiresAt: "1969-12-31T00:00:00.000Z" }
      const { json, status } = yield* ask("POST", "/api/keys", { key, body })
      assert.deepStrictEqual([status, json.error], [400, "expiresAt must be in the future"])
    })
  )

  it.effect("are shown once, work at once, are listed without their secret, and are invalid once revoked", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const issued = yield* ask("POST", "/api/keys", { key, body: { name: "ci" } })
      assert.strictEqual(issued.status, 201)
      assert.match(issued.json.key, /^cst_[a-z0-9]{40}$/)
      assert.isNull(issued.json.expiresAt)
      const listed = yield* ask("GET", "/api/keys", { key: issued.json.key })
      assert.strictEqual(listed.status, 200)
      assert.deepStrictEqual(listed.json.keys.map(({ name }: { name: string }) => name).sort(), ["ci", "test"])
      assert.notInclude(listed.text, issued.json.key)
      assert.strictEqual((yield* ask("DELETE", `/api/keys/${issued.json.id}`, { key })).status, 204)
      assert.strictEqual((yield* ask("GET", "/api/keys", { key: issued.json.key })).status, 401)
      const again = yield* ask("DELETE", `/api/keys/${issued.json.id}`, { key })
      assert.deepStrictEqual([again.status, again.json.error], [404, "API key not found"])
    })
  )

  it.effect("are invalid once they expire", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const body = { name: "short", expiresAt: "1970-01-01T02:00:00.000Z" }
      const issued = yield* ask("POST", "/api/keys", { key, body })
      assert.strictEqual(issued.json.expiresAt, body.expiresAt)
      assert.strictEqual((yield* ask("GET", "/api/keys", { key: issued.json.key })).status, 200)
      yield* TestClock.setTime(2 * 60 * 60 * 1000)
      assert.strictEqual((yield* ask("GET", "/api/keys", { key: issued.json.key })).status, 401)
    })
  )

  it.effect("are not created with a malformed expiry or one that a database can't hold", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const times = [
        "tomorrow",
        "+010000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "2030-02-30",
        "2030-13-01",
        "1",
        ""
      ]
      for (const expiresAt of times) {
        const { json, status } = yield* ask("POST", "/api/keys", { key, body: { name: "x", expiresAt } })
        assert.deepStrictEqual(
          [status, json.error, json.missing_fields],
          [400, "expiresAt must be an ISO 8601 time, such as 2030-01-31T12:00:00Z", ["expiresAt"]],
          expiresAt
        )
      }
      for (const expiresAt of [
        "2030-01-31",
        "2030-01-31T12:00Z",
        "2030-01-31T12:00:00+05:30",
        "9999-12-31T23:59:59.999Z"
      ]) {
        assert.strictEqual((yield* ask("POST", "/api/keys", { key, body: { name: "x", expiresAt } })).status, 201)
      }
    })
  )

  it.effect("of another account can't be listed or revoked", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const stranger = yield* join()
      const issued = yield* ask("POST", "/api/keys", { key, body: { name: "mine" } })
      assert.strictEqual((yield* ask("DELETE", `/api/keys/${issued.json.id}`, { key: stranger.key })).status, 404)
      assert.strictEqual((yield* ask("GET", "/api/keys", { key: issued.json.key })).status, 200)
    })
  )

  it.effect("are created for new accounts by a platform admin, and only platform admins create accounts", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const admin = yield* join({ platformAdmin: true })
      const refused = yield* ask("POST", "/api/accounts", { key, body: { name: "x" } })
      assert.deepStrictEqual([refused.status, refused.json.error], [403, "Forbidden"])
      const made = yield* ask("POST", "/api/accounts", {
        key: admin.key,
        body: { name: "Ada", email: "ada@example.com" }
      })
      assert.strictEqual(made.status, 201)
      assert.deepStrictEqual([made.json.account.name, made.json.account.email], ["Ada", "ada@example.com"])
      const issued = yield* ask("POST", "/api/keys", {
        key: admin.key,
        body: { name: "first", account_id: made.json.account.id }
      })
      assert.strictEqual(issued.status, 201)
      assert.strictEqual((yield* ask("GET", "/api/sandboxes", { key: issued.json.key })).status, 200)
      assert.strictEqual(
        (yield* ask("POST", "/api/keys", { key, body: { name: "x", account_id: made.json.account.id } })).status,
        403
      )
    })
  )
})

layer(WebApi.layer)("A request with an idempotency key", (it) => {
  const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))

  const create = (key: string, idempotencyKey: string, body: unknown) =>
    ask("POST", "/api/sandboxes", { key, body, headers: { "idempotency-key": idempotencyKey } })

  it.effect("is replayed byte for byte, and runs once", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const first = yield* create(key, "k-1", { command: "echo" })
      assert.isNull(first.headers.get("idempotency-replayed"))
      yield* TestClock.adjust("5 minutes")
      const again = yield* create(key, "k-1", { command: "echo" })
      assert.deepStrictEqual([again.status, again.text], [first.status, first.text])
      assert.strictEqual(again.headers.get("idempotency-replayed"), "true")
      assert.strictEqual((yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes.length, 1)
      assert.strictEqual((yield* ask("GET", "/api/tasks/runs", { key })).json.runs.length, 1)
    })
  )

  it.effect("is refused if the key was used for another request", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      yield* create(key, "k-2", {})
      const other = yield* create(key, "k-2", { command: "echo" })
      assert.deepStrictEqual([other.status, other.json.code], [422, "idempotency_key_reused"])
    })
  )

  it.effect("is independent of the same key of another account", () =>
    Effect.gen(function* () {
      const api = yield* WebApi
      const one = yield* create((yield* api.join()).key, "k-3", {})
      const two = yield* create((yield* api.join()).key, "k-3", {})
      assert.notStrictEqual(one.json.sandboxes[0].sandboxId, two.json.sandboxes[0].sandboxId)
    })
  )

  it.effect("can be corrected and repeated after it failed its checks", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      assert.strictEqual((yield* create(key, "k-4", { command: "" })).status, 400)
      assert.strictEqual((yield* create(key, "k-4", { command: "echo" })).status, 200)
    })
  )

  it.effect("creates one sandbox if it is sent many times at once", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const answers = yield* Effect.all(
        Array.from({ length: 20 }, () => create(key, "k-5", {})),
        { concurrency: "unbounded" }
      )
      assert.isTrue(answers.every(({ status }) => status === 200 || status === 409))
      assert.isTrue(answers.some(({ status }) => status === 200))
      assert.strictEqual((yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes.length, 1)
    })
  )

  it.effect("is forgotten after a day", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const first = yield* create(key, "k-6", {})
      yield* TestClock.adjust("25 hours")
      const second = yield* create(key, "k-6", {})
      assert.notStrictEqual(second.json.sandboxes[0].sandboxId, first.json.sandboxes[0].sandboxId)
    })
  )

  it.effect("is refused if the key does not have 1 to 255 printable characters", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const answer = yield* create(key, "x".repeat(256), {})
      assert.deepStrictEqual(
        [answer.status, answer.json.error],
        [400, "Idempotency-Key must be 1 to 255 printable characters"]
      )
    })
  )
})

/** A provider that takes two minutes to create a sandbox. */
const slow = Layer.effect(
  SandboxProvider,
  Effect.map(SandboxProvider, (real) => ({
    ...real,
    create: (spec: SandboxSpec) => Effect.delay(real.create(spec), "2 minutes")
  }))
)

layer(WebApi.over(slow))("A slow request with an idempotency key", (it) => {
  it.effect("is in flight until it ends, and then replayed", () =>
    Effect.gen(function* () {
      const { ask, join } = yield* WebApi
      const { key } = yield* join()
      const create = ask("POST", "/api/sandboxes", { key, body: {}, headers: { "idempotency-key": "slow" } })
      const first = yield* Effect.forkChild(create)
      for (let minutes = 0; minutes < 2; minutes++) {
        yield* TestClock.adjust("50 seconds")
        const meanwhile = yield* create
        assert.deepStrictEqual([meanwhile.status, meanwhile.json.code], [409, "idempotency_in_flight"])
      }
      // The first request may reach the provider only after the first adjustment of the clock.
      yield* TestClock.adjust("2 minutes")
      const answer = yield* Fiber.join(first)
      const again = yield* create
      assert.deepStrictEqual([again.status, again.text], [200, answer.text])
      assert.strictEqual((yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes.length, 1)
    })
  )
})
