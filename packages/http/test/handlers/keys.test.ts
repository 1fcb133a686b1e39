import { SandboxProvider, type SandboxSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

layer(WebApi.layer)("API keys over HTTP", (it) => {
  const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))
  const join = (more?: { readonly platformAdmin?: boolean }) => Effect.flatMap(WebApi, (api) => api.join(more))

  it.effect("that would be dead already are not made", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const body = { name: "late", expiresAt: "1969-12-31T00:00:00.000Z" }
      const { json, status } = yield* ask("POST", "/api/keys", { key, body })
      assert.deepStrictEqual([status, json.error], [400, "expiresAt must be in the future"])
    })
  )

  it.effect("are shown once, work at once, are listed without their secret, and end at once", () =>
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

  it.effect("expire at their time", () =>
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

  it.effect("are not made with an expiry that is no time, or that no database can hold", () =>
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

  it.effect("of another account can't be seen or ended", () =>
    Effect.gen(function* () {
      const { key } = yield* join()
      const stranger = yield* join()
      const issued = yield* ask("POST", "/api/keys", { key, body: { name: "mine" } })
      assert.strictEqual((yield* ask("DELETE", `/api/keys/${issued.json.id}`, { key: stranger.key })).status, 404)
      assert.strictEqual((yield* ask("GET", "/api/keys", { key: issued.json.key })).status, 200)
    })
  )

  it.effect("are made for new accounts by a platform admin, and accounts by nobody else", () =>
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

layer(WebApi.layer)("A request under an idempotency key", (it) => {
  const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))

  const create = (key: string, idempotencyKey: string, body: unknown) =>
    ask("POST", "/api/sandboxes", { key, body, headers: { "idempotency-key": idempotencyKey } })

  it.effect("is answered again byte for byte, and done once", () =>
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

  it.effect("that is another request is refused", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      yield* create(key, "k-2", {})
      const other = yield* create(key, "k-2", { command: "echo" })
      assert.deepStrictEqual([other.status, other.json.code], [422, "idempotency_key_reused"])
    })
  )

  it.effect("is its own account's affair", () =>
    Effect.gen(function* () {
      const api = yield* WebApi
      const one = yield* create((yield* api.join()).key, "k-3", {})
      const two = yield* create((yield* api.join()).key, "k-3", {})
      assert.notStrictEqual(one.json.sandboxes[0].sandboxId, two.json.sandboxes[0].sandboxId)
    })
  )

  it.effect("that failed its checks can be asked again, put right", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      assert.strictEqual((yield* create(key, "k-4", { command: "" })).status, 400)
      assert.strictEqual((yield* create(key, "k-4", { command: "echo" })).status, 200)
    })
  )

  it.effect("sent many times at once makes one sandbox", () =>
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

  it.effect("must bear a key of 1 to 255 printable characters", () =>
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

/** A provider that takes two minutes for a sandbox. */
const slow = Layer.effect(
  SandboxProvider,
  Effect.map(SandboxProvider, (real) => ({
    ...real,
    create: (spec: SandboxSpec) => Effect.delay(real.create(spec), "2 minutes")
  }))
)

layer(WebApi.over(slow))("A slow request under an idempotency key", (it) => {
  it.effect("is in flight for as long as it takes, and then answered again", () =>
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
      // The first request may have reached the provider only after the clock was moved for the first time.
      yield* TestClock.adjust("2 minutes")
      const answer = yield* Fiber.join(first)
      const again = yield* create
      assert.deepStrictEqual([again.status, again.text], [200, answer.text])
      assert.strictEqual((yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes.length, 1)
    })
  )
})
