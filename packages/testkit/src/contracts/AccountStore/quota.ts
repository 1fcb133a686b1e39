import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxQuotaReached } from "@castellan/domain/sandbox/SandboxQuota.ts"
import { assert } from "@effect/vitest"
import { Effect, Option, Result } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { sandboxOf, many, everything } from "./fixtures.ts"

export const quota: Clauses<AccountStore | EventStore | IdentityStore> = {
  "concurrent adds never exceed the account's limit of live sandboxes": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      for (let round = 0; round < 5; round++) {
        const [scope, other] = [yield* given.scope, yield* given.scope]
        yield* store.add(other, sandboxOf(other), 1)
        const asked = Array.from({ length: 10 }, () => Effect.result(store.add(scope, sandboxOf(scope), 3)))
        const answers = yield* Effect.all(asked, { concurrency: "unbounded" })
        const refusals = answers.filter(Result.isFailure).map(({ failure }) => failure)
        const refusal = new SandboxQuotaReached({ account: scope.account, limit: 3 })
        assert.deepStrictEqual(refusals, Array<SandboxQuotaReached>(7).fill(refusal))
        const { rows } = yield* store.list(scope, everything)
        const written = answers.filter(Result.isSuccess).map(({ success }) => Option.getOrThrow(success).name)
        assert.sameMembers(
          rows.map(({ name }) => name),
          written
        )
      }
    }),

  "a sandbox is live if it is pending, running or stopping and has not expired": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const isFull = Effect.fnUntraced(function* (one: Partial<AccountSandbox>) {
        const scope = yield* given.scope
        yield* store.add(scope, sandboxOf(scope, { createdAt: at(1000), ...one }), 1)
        return Result.isFailure(yield* Effect.result(store.add(scope, sandboxOf(scope, { createdAt: at(2000) }), 1)))
      })
      for (const status of ["pending", "running", "stopping"] as const) {
        assert.isTrue(yield* isFull({ status }), status)
        assert.isTrue(yield* isFull({ status, expiresAt: at(2001) }), status)
        for (const expired of [1500, 2000]) assert.isFalse(yield* isFull({ status, expiresAt: at(expired) }), status)
      }
      for (const status of ["stopped", "failed"] as const) {
        for (const expiresAt of [null, at(2001)]) assert.isFalse(yield* isFull({ status, expiresAt }), status)
      }
    }),

  "adding an existing row succeeds for an account at its limit": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const first = sandboxOf(scope)
      yield* store.add(scope, first, 1)
      assert.isTrue(Result.isFailure(yield* Effect.result(store.add(scope, sandboxOf(scope), 1))))
      assert.deepStrictEqual(yield* store.add(scope, first, 1), Option.some(first))
    }),

  "countLive counts the live sandboxes of all accounts": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      // Later than the expiry of every sandbox of other clauses.
      const now = at(4_000_000_000_000)
      const before = yield* store.countLive(now)
      const [later, earlier] = [at(4_000_000_000_001), at(3_999_999_999_999)]
      for (const [status, expiresAt, removedAt] of [
        ["running", later, null],
        ["running", earlier, null],
        ["pending", null, null],
        ["stopped", later, null],
        ["failed", null, null]
      ] as const) {
        const scope = yield* given.scope
        yield* store.add(scope, sandboxOf(scope, { status, expiresAt, removedAt }), many)
      }
      assert.strictEqual(yield* store.countLive(now), before + 2)
    })
}
