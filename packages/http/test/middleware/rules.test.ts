import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { document } from "../../src/api/openapi.ts"
import { WebApi } from "../WebApi.ts"

const errorBody = (code: string, error: string) => ({ status: "error", success: false, error, code })

layer(WebApi.layer)("Rules for every request", (it) => {
  const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))

  it.effect("refuses a request without exactly one credential", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const unclear = errorBody("credentials_unclear", "Exactly one of x-api-key or Authorization must be provided")
      for (const headers of [{}, { "x-api-key": key, authorization: `Bearer ${key}` }, { "x-api-key": "" }]) {
        const answer = yield* ask("GET", "/api/sandboxes", { headers })
        assert.deepStrictEqual([answer.status, answer.json], [401, unclear])
      }
    })
  )

  it.effect("accepts an API key as a bearer token", () =>
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

  it.effect("refuses an unknown key, an unknown token and another authorization scheme", () =>
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

  it.effect("authenticates a request before it reads the body", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { body: "{not json" })).status, 401)
    })
  )

  it.effect("refuses a body that is not JSON and creates nothing", () =>
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

  it.effect("accepts an empty body if no field is required, with and without a JSON content type", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key })).status, 200)
      const headers = { "content-type": "application/json" }
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key, headers, body: "" })).status, 200)
    })
  )

  it.effect("names the missing fields and reports the first invalid one", () =>
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

  it.effect("treats null as absent for an optional field", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      const body = { command: null, args: null, cwd: null, env: null, prompt: null, snapshotId: null, account_id: null }
      assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key, body })).status, 200)
    })
  )

  it.effect("refuses a body over 1 MiB with and without a content-length", () =>
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

  it.effect("refuses a media type other than JSON", () =>
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

  it.effect("answers an unknown path with 404, and a wrong method with 405 and the allowed methods", () =>
    Effect.gen(function* () {
      const nowhere = yield* ask("GET", "/api/nothing")
      assert.deepStrictEqual([nowhere.status, nowhere.json], [404, errorBody("not_found", "Not found")])
      const wrong = yield* ask("PUT", "/api/sandboxes")
      assert.deepStrictEqual([wrong.status, wrong.json], [405, errorBody("method_not_allowed", "Method not allowed")])
      assert.strictEqual(wrong.headers.get("allow"), "DELETE, GET, PATCH, POST, HEAD, OPTIONS")
      assert.strictEqual((yield* ask("GET", "/api/tasks/runs/run_1/cancel")).headers.get("allow"), "POST, OPTIONS")
    })
  )

  it.effect("answers a wrong method at a fixed path with 405 and does not take the path for an id", () =>
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

  it.effect("ignores a trailing slash of the path", () =>
    Effect.gen(function* () {
      const { key } = yield* (yield* WebApi).join()
      assert.strictEqual((yield* ask("GET", "/api/sandboxes/", { key })).status, 200)
      assert.strictEqual((yield* ask("GET", "/health/")).status, 200)
    })
  )

  it.effect("returns the request id of the caller, or a new one if it has none or a malformed one", () =>
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

  it.effect("allows any origin, on errors too", () =>
    Effect.gen(function* () {
      const preflight = yield* ask("OPTIONS", "/api/sandboxes", { headers: { origin: "https://app.test" } })
      assert.strictEqual(preflight.status, 204)
      assert.include(preflight.headers.get("access-control-allow-headers")!, "x-api-key")
      assert.include(preflight.headers.get("access-control-allow-headers")!, "idempotency-key")
      assert.strictEqual((yield* ask("GET", "/api/nothing")).headers.get("access-control-allow-origin"), "*")
      assert.strictEqual((yield* ask("GET", "/api/sandboxes")).headers.get("access-control-allow-origin"), "*")
    })
  )

  it.effect("answers HEAD like GET without the body", () =>
    Effect.gen(function* () {
      const answer = yield* ask("HEAD", "/health")
      assert.deepStrictEqual([answer.status, answer.text], [200, ""])
    })
  )

  it.effect("answers public paths without a credential", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual((yield* ask("GET", "/health")).json, { status: "ok" })
      assert.deepStrictEqual((yield* ask("GET", "/ready")).json.status, "ready")
      assert.deepStrictEqual((yield* ask("GET", "/openapi.json")).json, JSON.parse(JSON.stringify(document)))
      const docs = yield* ask("GET", "/docs")
      assert.strictEqual(docs.status, 200)
      assert.include(docs.text, "<html")
    })
  )

  it.effect("refuses every operation that is not public without a credential", () =>
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
