import { assert, it } from "@effect/vitest"
import { complaint, look } from "./Fuzz.ts"

it("generated requests get the responses that openapi.json declares, and no server error", async () => {
  assert.isNull(await look(1, 400))
})

it("the fuzzer reports a response that openapi.json does not declare", () => {
  const headers = { "x-request-id": "a", "access-control-allow-origin": "*", "content-type": "application/json" }
  const judge = (method: string, url: string, status: number, body: unknown, more: Record<string, string> = {}) =>
    complaint(method, url, { status, headers: new Headers({ ...headers, ...more }), text: JSON.stringify(body) })
  const error = { status: "error", success: false, error: "Sandbox not found", code: "sandbox_not_found" }
  assert.isUndefined(judge("GET", "/health", 200, { status: "ok" }))
  assert.isUndefined(judge("GET", "/api/sandboxes/x", 404, error))
  assert.isDefined(judge("GET", "/health", 200, { status: "well" }))
  assert.isDefined(judge("GET", "/health", 201, { status: "ok" }))
  assert.isDefined(judge("GET", "/health", 200, { status: "ok" }, { "content-type": "text/plain" }))
  assert.isDefined(judge("GET", "/nowhere", 200, {}))
  assert.isDefined(judge("GET", "/api/sandboxes/x", 500, error))
  assert.isDefined(judge("GET", "/api/sandboxes/x", 418, error))
  assert.isDefined(judge("GET", "/api/sandboxes/x", 404, { ...error, code: "file_not_found" }))
  assert.isDefined(judge("GET", "/api/sandboxes/x", 404, { ...error, stack: "at x" }))
  assert.isDefined(judge("GET", "/api/sandboxes/x", 404, { ...error, success: true }))
  assert.isDefined(judge("GET", "/api/sandboxes/setup", 405, error))
})
