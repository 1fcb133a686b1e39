import { afterAll, assert, describe, it, vi } from "vitest"

const adminKey = "an-admin-key-for-the-tests"

// The whole deployment in memory, without network, processes or files.
vi.mock("../setting.ts", async () => {
  const { Effect, Redacted } = await import("effect")
  const { layer } = await import("@castellan/testkit/World.ts")
  const options = { secret: Redacted.make(new Uint8Array(32)), adminKey: Redacted.make(adminKey) }
  return { ports: layer, options: Effect.succeed(options) }
})

const { dispose } = await import("../castellan.ts")
const { GET, POST } = await import("../app/api/[...path]/route.ts")

const requestTo = (path: string, init: RequestInit = {}) =>
  new Request(`https://my-service.example${path}`, {
    ...init,
    headers: { "content-type": "application/json", "x-api-key": adminKey, ...init.headers }
  })

afterAll(dispose)

describe("The Next.js route", () => {
  it("creates a sandbox, runs a command in it and streams the output", async () => {
    const body = JSON.stringify({ command: "echo", args: ["from a route"] })
    const made = await POST(requestTo("/api/sandboxes", { method: "POST", body }))
    assert.strictEqual(made.status, 200)
    const { sandboxes } = (await made.json()) as { readonly sandboxes: ReadonlyArray<{ readonly runId: string }> }
    const log = await GET(requestTo(`/api/tasks/runs/${sandboxes[0]!.runId}/logs`))
    assert.strictEqual(log.headers.get("content-type"), "text/event-stream")
    assert.include(await log.text(), '{"stream":"stdout","text":"from a route\\n"}')
  })

  it("rejects a request without a key", async () => {
    const refused = await GET(requestTo("/api/sandboxes", { headers: { "x-api-key": "" } }))
    assert.strictEqual(refused.status, 401)
  })
})
