import { make } from "castellan/embedding/promises.ts"
import * as World from "@castellan/testkit/World.ts"
import { serve, type ServerType } from "@hono/node-server"
import { Redacted } from "effect"
import type { AddressInfo } from "node:net"
import { afterAll, assert, beforeAll, describe, it } from "vitest"
import { createApp } from "../app.ts"

describe("The Hono app", async () => {
  const castellan = await make(World.layer, { secret: Redacted.make(new Uint8Array(32)) })
  const { id } = await castellan.createAccount({ name: "Ada" })
  const ada = await castellan.as(id)
  const authenticate = async (request: Request) => (request.headers.get("cookie") === "name=ada" ? id : undefined)
  let server: ServerType
  let url: string

  beforeAll(async () => {
    url = await new Promise<string>((resolve) => {
      const listening = ({ port }: AddressInfo) => resolve(`http://127.0.0.1:${port}`)
      server = serve({ fetch: createApp(castellan, authenticate).fetch, hostname: "127.0.0.1", port: 0 }, listening)
    })
  })

  afterAll(async () => {
    await new Promise((closed) => server.close(closed))
    await castellan.dispose()
  })

  it("serves the API below its path and lists the created sandboxes on its own route", async () => {
    const { secret } = await ada.keys.issue({ name: "phone", expiresAt: null })
    const headers = { "x-api-key": Redacted.value(secret), "content-type": "application/json" }
    const body = JSON.stringify({ command: "echo", args: ["from hono"] })
    const made = await fetch(`${url}/castellan/api/sandboxes`, { method: "POST", headers, body })
    const { sandboxes } = (await made.json()) as any
    const log = await fetch(`${url}/castellan/api/tasks/runs/${sandboxes[0].runId}/logs`, { headers })
    assert.include(await log.text(), "from hono")

    const dashboard = await fetch(`${url}/dashboard`, { headers: { cookie: "name=ada" } })
    assert.deepStrictEqual(await dashboard.json(), {
      sandboxes: [{ name: sandboxes[0].sandboxId, status: "running" }]
    })
  })

  it("rejects unauthenticated requests on both routes", async () => {
    assert.strictEqual((await fetch(`${url}/dashboard`)).status, 401)
    assert.strictEqual((await fetch(`${url}/castellan/api/sandboxes`)).status, 401)
  })
})
