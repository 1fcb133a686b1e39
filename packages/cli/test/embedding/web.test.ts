import * as web from "../../src/embedding/web.ts"
import * as World from "@castellan/testkit/World.ts"
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Redacted } from "effect"
import { createHmac } from "node:crypto"
import { ApiKey, ApiKeyId, KeyDigest } from "@castellan/domain/identity/ApiKey.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import * as given from "@castellan/testkit/given.ts"
import { DateTime } from "effect"

const secret = new Uint8Array(32).fill(9)
const key = "cst_0123456789"

/** A configured key; the server looks it up by its digest. */
const withKey = Layer.effectDiscard(
  Effect.gen(function* () {
    const account = yield* given.account()
    const digest = KeyDigest.make(createHmac("sha256", secret).update(key).digest("hex"))
    const createdAt = DateTime.makeUnsafe(0)
    const row = new ApiKey({
      id: ApiKeyId.make("key_1"),
      account: account.id,
      name: "k",
      createdAt,
      lastUsedAt: null,
      expiresAt: null
    })
    yield* (yield* IdentityStore).addKey(AccountScope.ofOwner(row), row, digest)
  })
)

const ports = withKey.pipe(Layer.provideMerge(World.layer))

const using = (handler: web.WebHandler) => ({
  post: async (body: unknown, signal?: AbortSignal) => {
    const headers = { "x-api-key": key, "content-type": "application/json" }
    const init: RequestInit = { method: "POST", headers, body: JSON.stringify(body) }
    return handler.handler(new Request("https://my-service.example/api/sandboxes", signal ? { ...init, signal } : init))
  },
  get: (path: string, headers: Record<string, string> = {}) =>
    handler.handler(new Request(`https://my-service.example${path}`, { headers: { "x-api-key": key, ...headers } }))
})

const mounted = <A>(
  layer: Layer.Layer<Layer.Success<typeof ports>>,
  use: (api: ReturnType<typeof using>) => Promise<A>
) =>
  Effect.acquireUseRelease(
    Effect.promise(() => web.make(layer, { secret: Redacted.make(secret) })),
    (handler) => Effect.promise(() => use(using(handler))),
    (handler) => Effect.promise(handler.dispose)
  )

describe("The fetch handler", () => {
  it.live("serves the API without a port", () =>
    mounted(ports, async ({ get, post }) => {
      const made = (await (await post({ command: "echo", args: ["embedded"] })).json()) as any
      const log = await get(`/api/tasks/runs/${made.sandboxes[0].runId}/logs`)
      assert.include(await log.text(), "embedded")
      assert.strictEqual((await get("/health")).status, 200)
      assert.strictEqual((await get("/nowhere")).status, 404)
    })
  )

  it.live("stops following a log when its reader disconnects", () =>
    mounted(ports, async ({ get, post }) => {
      const made = (await (await post({ command: "sleep", args: ["600"] })).json()) as any
      const log = await get(`/api/tasks/runs/${made.sandboxes[0].runId}/logs`)
      const reader = log.body!.getReader()
      await reader.read()
      await reader.cancel()
    })
  )

  it.live("does not reveal internal causes in error responses of any status", () => {
    const marked = "s3cr3t-t0ken /srv/private/path db.internal.example"
    const failing = Layer.effect(
      SandboxProvider,
      Effect.map(SandboxProvider, (real) => ({
        ...real,
        create: () =>
          Effect.fail(new SandboxUnavailable({ operation: marked, retryable: true, cause: new Error(marked) })),
        findMany: () => Effect.die(new Error(marked))
      }))
    ).pipe(Layer.provideMerge(ports))
    return mounted(failing.pipe(Layer.provideMerge(Logger.layer([]))), async ({ get, post }) => {
      const refused = await post({})
      const text = await refused.text()
      assert.strictEqual(refused.status, 502)
      assert.strictEqual(refused.headers.get("retry-after"), "1")
      assert.deepStrictEqual(JSON.parse(text), {
        status: "error",
        success: false,
        error: "Failed to create sandbox",
        code: "sandbox_not_created",
        reason: "The sandbox provider could not be reached",
        reasonCode: "provider_unavailable",
        retryAfterMs: 1000
      })
      const broken = await get("/api/sandboxes")
      const said = await broken.text()
      assert.deepStrictEqual([broken.status, JSON.parse(said).error], [500, "Internal server error"])
      for (const [answer, body] of [
        [refused, text],
        [broken, said]
      ] as const) {
        const everything = JSON.stringify([...answer.headers]) + body
        for (const word of marked.split(" ")) assert.notInclude(everything, word)
      }
    })
  })
})
