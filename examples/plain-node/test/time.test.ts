/** Uses Effect instead of promises, so that the test controls the clock. */
import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import * as Castellan from "@castellan/http/server/Castellan.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Option, Redacted } from "effect"
import { TestClock } from "effect/testing"

const castellan = Castellan.layer({ secret: Redacted.make(new Uint8Array(32)) }).pipe(Layer.provideMerge(World.layer))

it.effect("a sandbox stops after half an hour", () =>
  Effect.gen(function* () {
    const scope = yield* given.scope
    const sandboxes = yield* AccountSandboxes
    const { sandbox } = yield* sandboxes.create(scope, { work: Option.none(), nonce: Option.none() })
    yield* TestClock.adjust("31 minutes")
    const found = Option.getOrThrow(yield* sandboxes.find(scope, sandbox.name))
    assert.strictEqual(found.status, "stopped")
  }).pipe(Effect.provide(castellan))
)
