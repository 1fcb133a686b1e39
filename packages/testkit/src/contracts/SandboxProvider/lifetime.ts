import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { DateTime, Duration, Effect, Option } from "effect"
import type { Clauses } from "../contract.ts"
import { withName, specOf, withSandbox } from "./fixtures.ts"

export const lifetime: Clauses<SandboxProvider> = {
  "a new sandbox runs and expires after its lifetime": () =>
    withName(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const before = yield* DateTime.now
        const sandbox = yield* provider.create(specOf(name))
        assert.deepStrictEqual([sandbox.name, sandbox.status, sandbox.reason], [name, "running", null])
        const lifetime = sandbox.expiresAt.epochMilliseconds - before.epochMilliseconds
        assert.isAtLeast(lifetime, 5 * 60_000)
        assert.isAtMost(lifetime, 5 * 60_000 + 30_000)
      })
    ),

  "extend postpones the expiry by the given duration": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const before = Option.getOrThrow(yield* provider.find(name))
        const after = yield* provider.extend(name, Duration.minutes(10))
        assert.strictEqual(after.expiresAt.epochMilliseconds - before.expiresAt.epochMilliseconds, 600_000)
        assert.deepStrictEqual(Option.getOrThrow(yield* provider.find(name)), after)
      })
    )
}
