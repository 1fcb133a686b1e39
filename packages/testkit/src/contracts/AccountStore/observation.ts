import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { sandboxOf, many } from "./fixtures.ts"

export const observation: Clauses<AccountStore | EventStore | IdentityStore> = {
  "observed states are recorded for the scope's account only": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second, foreign] = [sandboxOf(one), sandboxOf(one), sandboxOf(two)]
      for (const sandbox of [first, second]) yield* store.add(one, sandbox, many)
      yield* store.add(two, foreign, many)
      const running = { status: "running", expiresAt: at(99), reason: null } as const
      const failed = { status: "failed", expiresAt: null, reason: "it's over" } as const
      const recorded = yield* store.recordObserved(one, [
        { name: first.name, ...running },
        { name: second.name, ...failed },
        { name: foreign.name, ...failed },
        { name: SandboxName.make("sbx_none"), ...failed }
      ])
      assert.deepStrictEqual(recorded, new Set([first.name, second.name]))
      assert.deepStrictEqual(yield* store.recordObserved(one, []), new Set())
      assert.deepStrictEqual(
        yield* store.get(one, first.name),
        Option.some(new AccountSandbox({ ...first, ...running }))
      )
      assert.deepStrictEqual(
        yield* store.get(one, second.name),
        Option.some(new AccountSandbox({ ...second, ...failed }))
      )
      assert.deepStrictEqual(yield* store.get(two, foreign.name), Option.some(foreign))
    }),

  "an observation does not change a row whose files were removed": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const sandbox = sandboxOf(scope)
      yield* store.add(scope, sandbox, many)
      yield* store.recordRemoved(scope, [sandbox.name], at(50), { code: "user_requested", sentence: "deleted" })
      const row = yield* store.get(scope, sandbox.name)
      const late = { name: sandbox.name, status: "running", expiresAt: at(99), reason: null } as const
      assert.deepStrictEqual(yield* store.recordObserved(scope, [late]), new Set())
      assert.deepStrictEqual(yield* store.get(scope, sandbox.name), row)
    })
}
