import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { document } from "../../src/api/openapi.ts"
import { WebApi } from "../WebApi.ts"

const errorBody = (code: string, error: string) => ({ status: "error", success: false, error, code })

layer(WebApi.layer)("Every request", (it) => {
  const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))

  it.effect("needs exactly one credential", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const unclear = errorBody("credentials_unclear", "Exactly one of x-api-key or Authorization must be provided")
      for (const headers of [{}, { "x-api-key": key, authorization: `Bearer ${key}` }, { "x-api-key": "" }]) {
        const answer = yield* ask("GET", "/api/sandboxes", { headers })
        assert.deepStrictEqual([answer.status, answer.json], [401, unclear])
      }
    })
  )

  it.effect("may bring its key as a bearer token", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      assert.strictEqual(
        (yield* ask("GET", "/api/sandboxes", { headers: { authorization: `Bearer ${key}` } })).status,
        200
      )
      assert.strictEqual(
        (yield* ask("GET", "/api/sandboxes", { headers: { authorization: `bearer ${key}` } })).status,
        200
      )
    })
  )

  it.effect("is refused with an unknown key, a token of nobody, or another scheme", () =>
    Effect.gen(function* () {
      const unauthorized = errorBody("unauthorized", "Unauthorized")
      for (const headers of [
        { "x-api-key": "cst_unknown" },
        { authorization: "Bearer cst_unknown" },
        { authorization: "Bearer aaa.bbb.ccc" },
        { authorization: "Basic dXNlcjpwYXNz" },
        { authorization: "Bearer" }
      ]) {
        const answer = yield* ask("GET", "/api/keys", { headers })
        assert.deepStrictEqual([answer.status, answer.json], [401, unauthorized])
      }
    })
  )

  it.effect("is authenticated before its body is looked at", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { body: "{not json" })).status, 401)
    })
  )

  it.effect("with a body that is not JSON gets one sentence, and nothing happens", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const answer = yield* ask("POST", "/api/sandboxes", { key, body: "{not json" })
      assert.deepStrictEqual(
        [answer.status, answer.json],
        [400, errorBody("invalid_json", "Request body must be valid JSON")]
      )
      assert.deepStrictEqual((yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes, [])
    })
  )

  it.effect("may leave a body without required fields empty, with a JSON content type too", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key })).status, 200)
      const headers = { "content-type": "application/json" }
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key, headers, body: "" })).status, 200)
    })
  )

  it.effect("is told which fields it lacks, and the first thing that is wrong", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const lacking = yield* ask("POST", "/api/keys", { key, body: {} })
      assert.deepStrictEqual(
        [lacking.status, lacking.json],
        [400, { ...errorBody("invalid_request", "name is required"), missing_fields: ["name"] }]
      )
      const sentences = {
        "account_id must be a valid UUID": { account_id: "me" },
        "command must not be empty": { command: "" },
        "command must be a string": { command: 7 },
        "args must be a list of strings": { command: "ls", args: "-la" },
        "args.1 must be a string": { command: "ls", args: ["a", 2] },
        "prompt must not be empty": { prompt: "" },
        "Cannot specify both command and prompt": { command: "ls", prompt: "hello" },
        "command must not contain a NUL character": { command: "l\0s" },
        "Request body must be a JSON object": [1]
      }
      for (const [sentence, body] of Object.entries(sentences)) {
        const answer = yield* ask("POST", "/api/sandboxes", { key, body })
        assert.deepStrictEqual([answer.status, answer.json.error], [400, sentence])
      }
      for (const limit of ["0", "101", "1.5", "many", ""]) {
        const answer = yield* ask("GET", `/api/sandboxes?limit=${limit}`, { key })
        assert.deepStrictEqual([answer.status, answer.json.error], [400, "limit must be an integer between 1 and 100"])
      }
      assert.deepStrictEqual((yield* ask("GET", "/api/sandboxes", { key })).json.sandboxes, [])
    })
  )

  it.effect("may send null for an optional field, which is the same as leaving it out", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const body = { command: null, args: null, cwd: null, env: null, prompt: null, snapshotId: null, account_id: null }
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key, body })).status, 200)
    })
  )

  it.effect("is refused if its body is over 1 MiB, declared or not", () =>
    Effect.gen(function* () {
      const api = yield* WebApi
      const { key } = yield* api.join()
      const fits = JSON.stringify({ command: "x".repeat(1024 * 1024 - 14) })
      assert.strictEqual(fits.length, 1024 * 1024)
      assert.notStrictEqual((yield* ask("POST", "/api/sandboxes", { key, body: fits })).status, 413)
      const over = `${fits} `
      const declared = yield* ask("POST", "/api/sandboxes", {
        key,
        body: over,
        headers: { "content-length": `${over.length}` }
      })
      assert.strictEqual(declared.status, 413)
      const stream = new Blob([over]).stream()
      const init = {
        method: "POST",
        headers: { "x-api-key": key, "content-type": "application/json" },
        body: stream,
        duplex: "half"
      } as RequestInit
      const streamed = yield* api.fetch(new Request("http://castellan.test/api/sandboxes", init))
      const body = yield* Effect.promise(() => streamed.json())
      assert.deepStrictEqual(
        [streamed.status, body],
        [413, errorBody("body_too_large", "Request body must be at most 1 MiB")]
      )
    })
  )

  it.effect("with another media type than JSON is refused", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const answer = yield* ask("POST", "/api/sandboxes", {
        key,
        body: "a=b",
        headers: { "content-type": "text/plain" }
      })
      assert.deepStrictEqual(
        [answer.status, answer.json],
        [415, errorBody("unsupported_media_type", "Content-Type must be application/json")]
      )
    })
  )

  it.effect("to nowhere is 404, and by a wrong method 405 with the right ones", () =>
    Effect.gen(function* () {
      const nowhere = yield* ask("GET", "/api/nothing")
      assert.deepStrictEqual([nowhere.status, nowhere.json], [404, errorBody("not_found", "Not found")])
      const wrong = yield* ask("PUT", "/api/sandboxes")
      assert.deepStrictEqual([wrong.status, wrong.json], [405, errorBody("method_not_allowed", "Method not allowed")])
      assert.strictEqual(wrong.headers.get("allow"), "DELETE, GET, PATCH, POST, HEAD, OPTIONS")
      assert.strictEqual((yield* ask("GET", "/api/tasks/runs/run_1/cancel")).headers.get("allow"), "POST, OPTIONS")
    })
  )

  it.effect("by a wrong method to a fixed path beside an id is 405, and is not taken for that id", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const paths = Object.entries(document.paths)
      const patterns = paths.map(([path]) => new RegExp(`^${path.replaceAll(/\{\w+\}/g, "[^/]+")}$`))
      let beside = 0
      for (const [path, methods] of paths) {
        const concrete = path.replaceAll(/\{\w+\}/g, "x")
        const others = paths.flatMap(([other, taken], index) =>
          other !== path && other.includes("{") && patterns[index]!.test(concrete) ? Object.keys(taken) : []
        )
        for (const method of others.filter((one) => !(one in methods))) {
          const { headers, json, status } = yield* ask(method.toUpperCase(), concrete, { key })
          assert.deepStrictEqual([status, json.code], [405, "method_not_allowed"], `${method} ${concrete}`)
          for (const allowed of Object.keys(methods)) assert.include(headers.get("allow")!, allowed.toUpperCase())
          beside++
        }
      }
      assert.isAtLeast(beside, 4)
      assert.strictEqual((yield* ask("HEAD", "/api/sandboxes/setup", { key })).status, 405)
      assert.strictEqual((yield* ask("GET", "/api/sandboxes/%73etup", { key })).status, 405)
    })
  )

  it.effect("may end in a slash", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      assert.strictEqual((yield* ask("GET", "/api/sandboxes/", { key })).status, 200)
      assert.strictEqual((yield* ask("GET", "/health/")).status, 200)
    })
  )

  it.effect("gets its request id back, or a new one", () =>
    Effect.gen(function* () {
      assert.strictEqual(
        (yield* ask("GET", "/health", { headers: { "x-request-id": "abc-123" } })).headers.get("x-request-id"),
        "abc-123"
      )
      assert.match((yield* ask("GET", "/api/nothing")).headers.get("x-request-id")!, /^req_\w{20}$/)
      const odd = yield* ask("GET", "/health", { headers: { "x-request-id": "a b<script>" } })
      assert.match(odd.headers.get("x-request-id")!, /^req_\w{20}$/)
    })
  )

  it.effect("may come from any origin, and errors say so too", () =>
    Effect.gen(function* () {
      const preflight = yield* ask("OPTIONS", "/api/sandboxes", { headers: { origin: "https://app.test" } })
      assert.strictEqual(preflight.status, 204)
      assert.include(preflight.headers.get("access-control-allow-headers")!, "x-api-key")
      assert.include(preflight.headers.get("access-control-allow-headers")!, "idempotency-key")
      assert.strictEqual((yield* ask("GET", "/api/nothing")).headers.get("access-control-allow-origin"), "*")
      assert.strictEqual((yield* ask("GET", "/api/sandboxes")).headers.get("access-control-allow-origin"), "*")
    })
  )

  it.effect("by HEAD is answered as by GET, without the body", () =>
    Effect.gen(function* () {
      const answer = yield* ask("HEAD", "/health")
      assert.deepStrictEqual([answer.status, answer.text], [200, ""])
    })
  )

  it.effect("for what is public needs no credential", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* ask("GET", "/health")).json, { status: "ok" })
      assert.deepStrictEqual((yield* ask("GET", "/ready")).json.status, "ready")
      assert.deepStrictEqual((yield* ask("GET", "/openapi.json")).json, JSON.parse(JSON.stringify(document)))
      const docs = yield* ask("GET", "/docs")
      assert.strictEqual(docs.status, 200)
      assert.include(docs.text, "<html")
    })
  )

  it.effect("of every operation but the public ones is refused without a credential", () =>
    Effect.gen(function* () {
      for (const [path, methods] of Object.entries(document.paths)) {
        for (const [method, operation] of Object.entries(methods)) {
          const answer = yield* ask(method.toUpperCase(), path.replace(/\{\w+\}/g, "x"))
          assert.strictEqual(answer.status, operation.security.length === 0 ? 200 : 401, `${method} ${path}`)
        }
      }
    })
  )
})
