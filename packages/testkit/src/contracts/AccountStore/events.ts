import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { ChangeCode, ChangeReason } from "@castellan/domain/ChangeReason.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxEvent, type SandboxEventType } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { sandboxOf, many } from "./fixtures.ts"

const deleted: ChangeReason = { code: "user_requested", sentence: "it was deleted" }

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
        Array.from({ length: 5 }, () => store.recordRemoved(one, [sandbox.name], at(1_009), deleted)),
        { concurrency: "unbounded" }
      )
      yield* store.recordRemoved(two, [other.name], at(1_009), { code: "user_requested", sentence: "not theirs" })
      yield* sees("running", "too late")
      const events = (yield* (yield* EventStore).read(one, null, 100)).map(({ event }) => event)
      const eventOf = (
        type: SandboxEventType,
        code: ChangeCode,
        reason: string | null,
        at: DateTime.Utc,
        { name }: AccountSandbox = sandbox
      ) => new SandboxEvent({ account: one.account, type, sandbox: name, session: null, code, reason, at })
      const [, , running, stopped] = events
      assert.deepStrictEqual(events, [
        eventOf("sandbox.pending", "created", null, at(1_001)),
        eventOf("sandbox.pending", "created", null, at(1_002), other),
        eventOf("sandbox.running", "started", null, running!.at),
        eventOf("sandbox.stopped", "stopped", "it's over", stopped!.at),
        eventOf("sandbox.removed", "user_requested", "it was deleted", at(1_009))
      ])
      for (const { at } of [running!, stopped!]) {
        assert.isTrue(DateTime.between(at, { minimum: begun, maximum: ended }))
      }
      assert.deepStrictEqual(yield* (yield* EventStore).read(two, null, 100), [])
    }),

  "the event of a changed status has the code that was observed, or else the code of the status": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const sandbox = sandboxOf(scope)
      yield* store.add(scope, sandbox, many)
      const record = (status: AccountSandbox["status"], code?: ChangeCode) =>
        store.recordObserved(scope, [
          { name: sandbox.name, status, reason: null, expiresAt: at(99), ...(code === undefined ? {} : { code }) }
        ])
      yield* record("running")
      yield* record("stopping")
      yield* record("stopped")
      yield* record("running", "idle_timeout")
      yield* record("stopped", "provider_lost")
      yield* record("failed")
      yield* record("running")
      yield* record("failed", "provision_failed")
      yield* store.recordRemoved(scope, [sandbox.name], at(5), { code: "retention_over", sentence: null })
      const events = yield* (yield* EventStore).read(scope, null, 100)
      assert.deepStrictEqual(
        events.map(({ event }) => [event.type, event.code]),
        [
          ["sandbox.pending", "created"],
          ["sandbox.running", "started"],
          ["sandbox.stopping", "stopped"],
          ["sandbox.stopped", "stopped"],
          ["sandbox.running", "idle_timeout"],
          ["sandbox.stopped", "provider_lost"],
          ["sandbox.failed", "sandbox_failed"],
          ["sandbox.running", "started"],
          ["sandbox.failed", "provision_failed"],
          ["sandbox.removed", "retention_over"]
        ]
      )
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
          deleted
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
