import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { sandboxOf, many } from "./fixtures.ts"

export const housekeeping: Clauses<AccountStore | EventStore | IdentityStore> = {
  "listUnfinished returns the old pending rows of all accounts, oldest first, up to the limit": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      // Earlier than the rows of all other clauses, so that those do not count.
      const rows = [
        sandboxOf(one, { createdAt: at(-3000) }),
        sandboxOf(two, { createdAt: at(-2000) }),
        sandboxOf(one, { createdAt: at(-1000) })
      ]
      const settled = sandboxOf(one, { createdAt: at(-2500), status: "running" })
      for (const row of [rows[1]!, rows[2]!, rows[0]!, settled]) yield* store.add(AccountScope.ofOwner(row), row, many)
      assert.deepStrictEqual(yield* store.listUnfinished(at(-1000), 10), [rows[0]!, rows[1]!])
      assert.deepStrictEqual(yield* store.listUnfinished(at(-999), 1), [rows[0]!])
    }),

  "listKept returns the account's rows whose files exist, oldest first, up to the limit": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const rows = [
        sandboxOf(scope, { createdAt: at(1), status: "stopped", expiresAt: at(9) }),
        sandboxOf(scope, { createdAt: at(2), status: "running", expiresAt: at(5) }),
        sandboxOf(scope, { createdAt: at(3) })
      ]
      const removed = sandboxOf(scope, { createdAt: at(2), status: "stopped", removedAt: at(9) })
      for (const row of [rows[1]!, removed, rows[2]!, rows[0]!, sandboxOf(other)]) {
        yield* store.add(AccountScope.ofOwner(row), row, many)
      }
      assert.deepStrictEqual(yield* store.listKept(scope, 100), rows)
      assert.deepStrictEqual(yield* store.listKept(scope, 2), rows.slice(0, 2))
    }),

  "listExpired returns the ended rows of all accounts whose files exist, longest ended first": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      // Earlier than the rows of all other clauses, so that those do not count.
      const early = -1_000_000
      const rows = [
        sandboxOf(one, { createdAt: at(early - 9), expiresAt: at(early - 4), status: "running" }),
        sandboxOf(two, { createdAt: at(early - 3), expiresAt: null, status: "failed" }),
        sandboxOf(one, { createdAt: at(early - 8), expiresAt: at(early - 2), status: "stopped" }),
        sandboxOf(two, { createdAt: at(early - 10), expiresAt: at(early - 1), status: "stopping" })
      ]
      const others = [
        sandboxOf(one, { createdAt: at(early - 9), expiresAt: at(early), status: "stopped" }),
        sandboxOf(one, { createdAt: at(early), expiresAt: null, status: "failed" }),
        sandboxOf(two, {
          createdAt: at(early - 9),
          expiresAt: at(early - 4),
          status: "stopped",
          removedAt: at(early)
        }),
        sandboxOf(two, { createdAt: at(early - 9), expiresAt: null, status: "pending" }),
        sandboxOf(two, { createdAt: at(early - 9), expiresAt: at(early - 4), status: "pending" })
      ]
      for (const row of [rows[2]!, rows[0]!, ...others, rows[3]!, rows[1]!]) {
        yield* store.add(AccountScope.ofOwner(row), row, many)
      }
      assert.deepStrictEqual(yield* store.listExpired(at(early), 100), rows)
      assert.deepStrictEqual(yield* store.listExpired(at(early), 2), rows.slice(0, 2))
    }),

  "the removal of files is recorded once, for the scope's account only": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [running, failed, left] = [
        sandboxOf(one, { status: "running", expiresAt: at(5) }),
        sandboxOf(one, { status: "failed", reason: "it never began" }),
        sandboxOf(one, { status: "stopped" })
      ]
      const foreign = sandboxOf(two, { status: "running" })
      for (const row of [running, failed, left, foreign]) yield* store.add(AccountScope.ofOwner(row), row, many)
      const names = [running, failed, foreign].map(({ name }) => name)
      yield* store.recordRemoved(one, [...names, SandboxName.make("sbx_none")], at(7), {
        code: "user_requested",
        sentence: "it's long ago"
      })
      yield* store.recordRemoved(one, names, at(8), { code: "user_requested", sentence: "again" })
      yield* store.recordRemoved(one, [], at(9), { code: "user_requested", sentence: "nothing" })
      const removed = { removedAt: at(7), reason: "it's long ago" }
      const wanted = [
        new AccountSandbox({ ...running, ...removed, status: "stopped" }),
        new AccountSandbox({ ...failed, ...removed }),
        left
      ]
      for (const row of wanted) assert.deepStrictEqual(yield* store.get(one, row.name), Option.some(row))
      assert.deepStrictEqual(yield* store.get(two, foreign.name), Option.some(foreign))
    })
}
