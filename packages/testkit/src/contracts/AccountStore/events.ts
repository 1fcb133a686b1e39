import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxEvent, type SandboxEventType } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { sandboxOf, many } from "./fixtures.ts"

export const events: Clauses<AccountStore | EventStore | IdentityStore> = {
  "a new row, each change of its status and the removal of its files emit one event each, and nothing else does": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [sandbox, other] = [sandboxOf(one, { createdAt: at(1_001) }), sandboxOf(one, { createdAt: at(1_002) })]
      for (const row of [sandbox, sandbox, other, other]) yield* store.add(one, row, many)
      yield* Effect.exit(store.add(one, sandboxOf(one), 0))
      yield* store.add(two, sandbox, many)
      const begun = yield* DateTime.now
      const sees = (status: AccountSandbox["status"], reason: string | null, expiresAt = at(99)) =>
        store.recordObserved(one, [
          { name: sandbox.name, status, reason, expiresAt },
          { name: other.name, status: "pending", reason, expiresAt }
        ])
      yield* Effect.all(
        Array.from({ length: 10 }, () => sees("running", null)),
        { concurrency: "unbounded" }
      )
      yield* sees("running", null, at(100))
      yield* sees("running", "it's slow")
      yield* sees("stopped", "it's over")
      yield* store.recordObserved(two, [{ name: sandbox.name, status: "failed", reason: null, expiresAt: null }])
      const ended = yield* DateTime.now
      yield* Effect.all(
        Array.from({ length: 5 }, () => store.recordRemoved(one, [sandbox.name], at(1_009), "it was deleted")),
        { concurrency: "unbounded" }
      )
      yield* store.recordRemoved(two, [other.name], at(1_009), "not theirs")
      yield* sees("running", "too late")
      const events = (yield* (yield* EventStore).read(one, null, 100)).map(({ event }) => event)
      const eventOf = (
        type: SandboxEventType,
        reason: string | null,
        at: DateTime.Utc,
        { name }: AccountSandbox = sandbox
      ) => new SandboxEvent({ account: one.account, type, sandbox: name, session: null, reason, at })
      const [, , running, stopped] = events
      assert.deepStrictEqual(events, [
        eventOf("sandbox.pending", null, at(1_001)),
        eventOf("sandbox.pending", null, at(1_002), other),
        eventOf("sandbox.running", null, running!.at),
        eventOf("sandbox.stopped", "it's over", stopped!.at),
        eventOf("sandbox.removed", "it was deleted", at(1_009))
      ])
      for (const { at } of [running!, stopped!]) {
        assert.isTrue(DateTime.between(at, { minimum: begun, maximum: ended }))
      }
      assert.deepStrictEqual(yield* (yield* EventStore).read(two, null, 100), [])
    }),

  "concurrent changes of many sandboxes emit every event": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const rows = Array.from({ length: 20 }, () => sandboxOf(scope))
      for (const row of rows) yield* store.add(scope, row, many)
      const seen = rows.map(({ name }) => ({ name, status: "running", expiresAt: at(99), reason: null }) as const)
      // In both orders, so that transactions could deadlock.
      const sights = [0, 1, 2, 3].map((i) => store.recordObserved(scope, i % 2 === 0 ? seen : seen.toReversed()))
      const removals = [seen, seen.toReversed()].map((all) =>
        store.recordRemoved(
          scope,
          all.map(({ name }) => name),
          at(5),
          "it was deleted"
        )
      )
      yield* Effect.all([...sights, ...removals], { concurrency: "unbounded" })
      const events = (yield* (yield* EventStore).read(scope, null, 100)).map(({ event }) => event)
      for (const { name } of rows) {
        const [first, second, third, ...rest] = events.filter(({ sandbox }) => sandbox === name).map(({ type }) => type)
        assert.strictEqual(first, "sandbox.pending")
        if (second === "sandbox.running") assert.deepStrictEqual([third, ...rest], ["sandbox.removed"])
        else assert.deepStrictEqual([second, third, ...rest], ["sandbox.removed", undefined])
      }
    })
}
