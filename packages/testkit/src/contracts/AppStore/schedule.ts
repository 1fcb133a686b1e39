import { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as given from "../../given.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { beginApp, assertStored } from "./fixtures.ts"

export const schedule: Clauses<AppStore | EventStore | IdentityStore> = {
  "claimDue returns the due apps of all accounts, longest due first, up to the limit": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const dueAt = (nextCheckAt: number) =>
        Effect.flatMap(given.scope, (scope) =>
          beginApp(scope, [], { nextCheckAt: at(nextCheckAt), version: 3, reason: "it's due" })
        )
      // Earlier than the rows of all other clauses, so that those do not count.
      const [last, later, first, second] = [
        yield* dueAt(-1000),
        yield* dueAt(-999),
        yield* dueAt(-3000),
        yield* dueAt(-2000)
      ]
      const resting = yield* beginApp(yield* given.scope)
      const until = at(5_000_000)
      const claimed = [first, second, last].map((app) => new AppSandbox({ ...app, nextCheckAt: until }))
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), claimed.slice(0, 2))
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), claimed.slice(2))
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), [])
      for (const app of [...claimed, later, resting]) yield* assertStored(AccountScope.ofOwner(app), [app])
      assert.lengthOf(yield* store.claimDue(at(-999), until, 1), 1)
    }),

  "each due app goes to one of several concurrent claims": () =>
    Effect.gen(function* () {
      const store = yield* AppStore
      const names = new Set<SandboxName>()
      for (let i = 0; i < 50; i++) {
        const app = yield* beginApp(yield* given.scope, [], { nextCheckAt: at(-10_000 - i) })
        names.add(app.name)
      }
      const claims = Effect.gen(function* () {
        const got: Array<SandboxName> = []
        for (;;) {
          const due = yield* store.claimDue(at(-10_000), at(5_000_000), 4)
          if (due.length === 0) return got
          got.push(...due.map(({ name }) => name))
        }
      })
      const got = (yield* atOnce(Array.from({ length: 10 }, () => claims))).flat()
      assert.lengthOf(got, 50)
      assert.deepStrictEqual(new Set(got), names)
    })
}
