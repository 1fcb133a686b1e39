// Uses the installed packages on a Node that cannot strip types: a sandbox over the fakes.
import assert from "node:assert/strict"
import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import * as Castellan from "@castellan/http/server/Castellan.ts"
import * as web from "castellan/embedding/web.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { Effect, Layer, Option, Redacted } from "effect"

const secret = Redacted.make(new Uint8Array(32))
const castellan = Castellan.layer({ secret }).pipe(Layer.provideMerge(World.layer))

const program = Effect.gen(function* () {
  const scope = yield* given.scope
  const sandboxes = yield* AccountSandboxes
  return yield* sandboxes.create(scope, { work: Option.none(), nonce: Option.none() })
})
const { sandbox } = await Effect.runPromise(Effect.scoped(Effect.provide(program, castellan)))
assert.equal(sandbox.status, "running")

const { dispose, handler } = await web.make(World.layer, { secret })
assert.equal((await handler(new Request("http://localhost/health"))).status, 200)
assert.equal((await handler(new Request("http://localhost/api/sandboxes"))).status, 401)
await dispose()

// The packages must not contain TypeScript that needs compiling.
assert.match(import.meta.resolve("@castellan/domain/sandbox/Sandbox.ts"), /\/lib\/sandbox\/Sandbox\.js$/)
