import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { Lifecycle, Session, SessionId } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"

/** A session that is due at this time. Its clauses use times that no other clause uses. */
const dueAt = (scope: AccountScope, nextCheckAt: number) =>
  given.session(scope, { lifecycle: given.lifecycle({ nextCheckAt: at(nextCheckAt), version: 3 }) })

export const schedule: Clauses<SessionStore | EventStore | IdentityStore> = {
  "postpone moves the next check of an unchanged version, for its account only, and changes nothing else": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = dueAt(one, 1_000_000)
      yield* store.add(one, session)
      assert.isFalse(yield* store.setNextCheck(one, session.id, 2, at(2_000_000)))
      assert.isFalse(yield* store.setNextCheck(two, session.id, 3, at(2_000_000)))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      assert.isTrue(yield* store.setNextCheck(one, session.id, 3, at(2_000_000)))
      assert.isTrue(yield* store.setNextCheck(one, session.id, 3, at(2_000_001)))
      const later = new Lifecycle({ ...session.lifecycle, nextCheckAt: at(2_000_001) })
      const postponed = new Session({ ...session, lifecycle: later })
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(postponed))
    }),

  "claimDue returns the due sessions of all accounts, longest due first, up to the limit": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const rows = [dueAt(one, -3000), dueAt(two, -2000), dueAt(one, -1000)]
      const resting = given.session(two)
      for (const row of [rows[2]!, dueAt(one, -999), resting, rows[0]!, rows[1]!]) {
        yield* store.add(AccountScope.ofOwner(row), row)
      }
      const until = at(5_000_000)
      const claimed = rows.map(
        (row) => new Session({ ...row, lifecycle: new Lifecycle({ ...row.lifecycle, nextCheckAt: until }) })
      )
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), claimed.slice(0, 2))
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), claimed.slice(2))
      assert.deepStrictEqual(yield* store.claimDue(at(-1000), until, 2), [])
      for (const row of claimed) {
        assert.deepStrictEqual(yield* store.get(AccountScope.ofOwner(row), row.id), Option.some(row))
      }
      assert.deepStrictEqual(yield* store.get(two, resting.id), Option.some(resting))
      yield* store.claimDue(at(-999), until, 1)
    }),

  "each due session goes to one of several concurrent claims": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const ids = new Set<SessionId>()
      for (let i = 0; i < 50; i++) {
        const session = dueAt(scope, -10_000 - i)
        ids.add(session.id)
        yield* store.add(scope, session)
      }
      const claims = Effect.gen(function* () {
        const got: Array<SessionId> = []
        for (;;) {
          const due = yield* store.claimDue(at(-10_000), at(5_000_000), 4)
          if (due.length === 0) return got
          got.push(...due.map(({ id }) => id))
        }
      })
      const got = (yield* atOnce(Array.from({ length: 10 }, () => claims))).flat()
      assert.lengthOf(got, 50)
      assert.deepStrictEqual(new Set(got), ids)
    })
}
