import { userRequested } from "@castellan/domain/ChangeReason.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { BranchName } from "@castellan/domain/repo/Repo.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SessionTransition } from "@castellan/domain/session/SessionLifecycle.ts"
import { Session } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { hibernatedSession, restore } from "./fixtures.ts"

export const transitions: Clauses<SessionStore | EventStore | IdentityStore> = {
  "a transition is written only from the previous version and only in the scope of its account": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = hibernatedSession(one)
      const step = given.step(session, restore)
      assert.isFalse(yield* store.compareAndSet(one, step))
      yield* store.add(one, session)
      assert.isFalse(yield* store.compareAndSet(two, step))
      assert.isFalse(
        yield* store.compareAndSet(
          one,
          given.step(step.after, SessionTransition.Fail({ error: "too early", code: "internal_error" }))
        )
      )
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      assert.isTrue(yield* store.compareAndSet(one, step))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(step.after))
      assert.isFalse(yield* store.compareAndSet(one, step))
      const silent = given.step(step.after, SessionTransition.TakeOverLease({ leaseExpiresAt: at(9000) }))
      assert.isNull(silent.event)
      assert.isTrue(yield* store.compareAndSet(one, silent))
      assert.isFalse(yield* store.compareAndSet(one, silent))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(silent.after))
    }),

  "a transition stores the place of the working tree, and later transitions keep it": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = hibernatedSession(scope)
      assert.isFalse(session.lifecycle.workspace)
      yield* store.add(scope, session)
      const times = { expiresAt: at(9000), idleAt: at(8000), nextCheckAt: at(7000) }
      const moves = [
        restore,
        SessionTransition.Activate({ ...times, incarnation: "run", workspace: true, branch: BranchName.make("main") }),
        SessionTransition.Hibernate({ leaseExpiresAt: at(9000), reason: { code: "user_requested", sentence: "why" } }),
        SessionTransition.Hibernated({ reason: { code: "stopped", sentence: null } })
      ]
      let last = session
      for (const move of moves) {
        const step = given.step(last, move)
        assert.isTrue(yield* store.compareAndSet(scope, step))
        last = Option.getOrThrow(yield* store.get(scope, session.id))
        assert.deepStrictEqual(last, step.after)
      }
      assert.isTrue(last.lifecycle.workspace)
    }),

  "one of several concurrent transitions from the same version is written and emits its event": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      for (let round = 0; round < 3; round++) {
        const scope = yield* given.scope
        const session = hibernatedSession(scope)
        yield* store.add(scope, session)
        const steps = Array.from({ length: 20 }, (_, i) =>
          given.step(session, SessionTransition.Restore({ leaseExpiresAt: at(5000 + i), lost: i % 2 === 0 }))
        )
        const taken = yield* atOnce(steps.map((step) => store.compareAndSet(scope, step)))
        const [winner, ...others] = steps.filter((_, i) => taken[i])
        assert.deepStrictEqual(others, [])
        assert.deepStrictEqual(yield* store.get(scope, session.id), Option.some(winner!.after))
        const events = yield* (yield* EventStore).read(scope, null, 100)
        assert.deepStrictEqual(
          events.slice(1).map(({ event }) => event),
          [winner!.event]
        )
      }
    }),

  "a transition keeps the fields outside the lifecycle, and the status unless it archives or unarchives": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = hibernatedSession(scope)
      yield* store.add(scope, session)
      const change = { title: "new", status: "completed", repo: "https://h/o/r" } as const
      const write = (from: Session, move: SessionTransition) => {
        const step = given.step(from, move)
        return Effect.as(store.compareAndSet(scope, step), step.after)
      }
      yield* store.change(scope, session.id, change, at(12))
      const restoring = yield* write(session, restore)
      const stored = new Session({ ...restoring, ...change })
      assert.deepStrictEqual(yield* store.get(scope, session.id), Option.some(stored))
      const failed = yield* write(stored, SessionTransition.Fail({ error: "it broke", code: "internal_error" }))
      const putAway = yield* write(
        failed,
        SessionTransition.Archive({ leaseExpiresAt: at(5000), reason: userRequested })
      )
      yield* store.change(scope, session.id, { status: "failed" }, at(13))
      const archived = Option.getOrThrow(yield* store.get(scope, session.id))
      assert.deepStrictEqual([archived.status, archived.lifecycle], ["archived", putAway.lifecycle])
      const asleep = yield* write(
        archived,
        SessionTransition.Hibernated({ reason: { code: "stopped", sentence: null } })
      )
      assert.strictEqual(Option.getOrThrow(yield* store.get(scope, session.id)).status, "archived")
      const out = yield* write(asleep, SessionTransition.Unarchive())
      const again = Option.getOrThrow(yield* store.get(scope, session.id))
      assert.deepStrictEqual(again, new Session({ ...out, ...change, status: "running" }))
    }),

  "the creation, the visible transitions and the removal of a session emit one event each": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = new Session({ ...hibernatedSession(one), createdAt: at(1_001) })
      for (const scope of [one, one, two]) yield* store.add(scope, session)
      const began = given.step(session, restore)
      const silent = given.step(began.after, SessionTransition.TakeOverLease({ leaseExpiresAt: at(6000) }))
      const failed = given.step(silent.after, SessionTransition.Fail({ error: "it's broken", code: "internal_error" }))
      for (const step of [began, began, failed, silent, failed]) yield* store.compareAndSet(one, step)
      yield* store.change(one, session.id, { title: "new" }, at(10))
      yield* store.setNextCheck(one, session.id, failed.after.lifecycle.version, at(7_000_000))
      for (const row of [session, failed.after, failed.after]) yield* store.remove(one, row, at(9_999))
      const { lifecycle } = failed.after
      const of = { account: one.account, sandbox: lifecycle.sandbox, session: session.id, reason: null }
      const events = yield* (yield* EventStore).read(one, null, 100)
      assert.deepStrictEqual(
        events.map(({ event }) => event),
        [
          new SandboxEvent({ ...of, type: "session.created", code: "created", at: at(1_001) }),
          began.event!,
          failed.event!,
          new SandboxEvent({ ...of, type: "session.removed", code: "removed", at: at(9_999) })
        ]
      )
      assert.deepStrictEqual(yield* (yield* EventStore).read(two, null, 100), [])
    })
}
