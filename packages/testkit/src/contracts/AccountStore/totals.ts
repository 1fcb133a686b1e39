import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { AccountTotal } from "@castellan/domain/account/AccountTotal.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Cursor, type PageOf } from "@castellan/domain/Page.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { sandboxOf, many, everything } from "./fixtures.ts"

export const totals: Clauses<AccountStore | EventStore | IdentityStore> = {
  "totals lists all accounts by their newest sandbox, in pages that have every account once": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const proof = yield* given.platformAdmin
      // Later than the rows of all other clauses, so that those come after these.
      const future = (offset: number) => at(2_000_000_000_000 + offset)
      const people = yield* Effect.all(
        Array.from({ length: 5 }, (_, i) =>
          Effect.map(given.account({ email: `${i}@example.com` }), ({ id }) => AccountScope.ofOwner({ account: id }))
        )
      )
      const times = [[3, 1], [5], [3], [4, 2, 0], [3]]
      for (const [i, scope] of people.entries()) {
        for (const time of times[i]!) {
          yield* store.add(scope, sandboxOf(scope, { createdAt: future(time), status: "failed" }), many)
        }
      }
      yield* store.recordRemoved(people[1]!, [(yield* store.list(people[1]!, everything)).rows[0]!.name], at(1), {
        code: "retention_over",
        sentence: "it's old"
      })
      const wanted = people.map((scope, i) => ({
        account: scope.account,
        email: `${i}@example.com`,
        sandboxes: times[i]!.length,
        lastCreatedAt: future(Math.max(...times[i]!))
      }))
      const read: Array<AccountTotal> = []
      let cursor: Cursor | null = null
      while (read.length < people.length) {
        const page: PageOf<AccountTotal> = yield* store.totals(proof, { limit: 2, cursor })
        assert.strictEqual(page.rows.length, 2)
        read.push(...page.rows)
        cursor = page.next
      }
      assert.deepStrictEqual(
        read.slice(0, people.length).map(({ lastCreatedAt }) => lastCreatedAt),
        [5, 4, 3, 3, 3].map(future)
      )
      const inOrder = (totals: ReadonlyArray<AccountTotal>) =>
        totals.toSorted((a, b) => (a.account < b.account ? -1 : 1))
      assert.deepStrictEqual(inOrder(read.slice(0, people.length)), inOrder(wanted))
      const beginning = yield* store.totals(proof, { limit: 3, cursor: null })
      assert.deepStrictEqual(beginning.rows, read.slice(0, 3))
      const madeUp = Cursor.make("2000000000005_nonsense")
      assert.isAtLeast((yield* store.totals(proof, { limit: 100, cursor: madeUp })).rows.length, 4)
    })
}
