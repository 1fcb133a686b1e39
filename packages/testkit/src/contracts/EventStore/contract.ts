/** The contract of EventStore: what every store of events guarantees. */
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { EventStore, type EventWithCursor } from "@castellan/domain/sandbox/EventStore.ts"
import { EventCursor } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SessionTransition } from "@castellan/domain/session/SessionLifecycle.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer } from "effect"
import * as given from "../../given.ts"
import { type Clauses, runContract } from "../contract.ts"

type Ports = EventStore | SessionStore | IdentityStore

const at = (millis: number) => DateTime.makeUnsafe(millis)

/** Creates a session at this time, which emits an event, and returns its id. */
const createSession = Effect.fnUntraced(function* (scope: AccountScope, millis = 1_700_000_000_123) {
  const session = given.session(scope, { createdAt: at(millis) })
  yield* (yield* SessionStore).add(scope, session)
  return session.id as string
})

const sessionsOf = (events: ReadonlyArray<EventWithCursor>) => events.map(({ event }) => event.session)

/** Creates a session and transitions that emit the given number of events, and returns its id. */
const createSessionWithEvents = Effect.fnUntraced(function* (scope: AccountScope, events: number) {
  const store = yield* SessionStore
  let session = given.session(scope, { lifecycle: given.lifecycle({ state: "hibernated" }) })
  yield* store.add(scope, session)
  for (let i = 1; i < events; i++) {
    const move =
      i % 2 === 1
        ? SessionTransition.Restore({ leaseExpiresAt: at(5000), lost: false })
        : SessionTransition.Fail({ error: `${i}`, code: "internal_error" })
    const step = given.step(session, move)
    yield* store.compareAndSet(scope, step)
    session = step.after
  }
  return session.id as string
})

/** Reads all events after a cursor, page by page. */
const readAll = Effect.fnUntraced(function* (scope: AccountScope, from: EventCursor | null, limit: number) {
  const store = yield* EventStore
  const read: Array<EventWithCursor> = []
  for (let after = from; ; after = read.at(-1)!.cursor) {
    const page = yield* store.read(scope, after, limit)
    assert.isAtMost(page.length, limit)
    if (page.length === 0) return read
    read.push(...page)
  }
})

export const clauses: Clauses<Ports> = {
  "events are read by their account only, in order, in pages that have every event once": () =>
    Effect.gen(function* () {
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const happened: Array<string> = []
      // The times are not in order, since the clocks of several servers differ.
      for (const time of [5, 4, 6, 3, 7]) {
        happened.push(yield* createSession(scope, time))
        yield* createSession(other, time)
      }
      assert.deepStrictEqual(sessionsOf(yield* readAll(scope, null, 2)), happened)
      assert.deepStrictEqual(sessionsOf(yield* readAll(scope, null, 100)), happened)
      assert.deepStrictEqual(yield* readAll(yield* given.scope, null, 100), [])
    }),

  "reading from the last cursor returns only newer events": () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* createSession(scope)
      const [first] = yield* readAll(scope, null, 100)
      assert.deepStrictEqual(yield* readAll(scope, first!.cursor, 100), [])
      const since = [yield* createSession(scope), yield* createSession(scope)]
      assert.deepStrictEqual(sessionsOf(yield* readAll(scope, first!.cursor, 100)), since)
      assert.deepStrictEqual(yield* readAll(scope, EventCursor.make("9".repeat(18)), 100), [])
    }),

  "reading from the latest cursor returns exactly the events that follow it": () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const beginning = yield* store.latest(scope)
      const first = yield* createSession(scope)
      const now = yield* store.latest(scope)
      yield* createSession(other)
      assert.deepStrictEqual(yield* readAll(scope, now, 100), [])
      const second = yield* createSession(scope)
      assert.deepStrictEqual(sessionsOf(yield* readAll(scope, beginning, 100)), [first, second])
      assert.deepStrictEqual(sessionsOf(yield* readAll(scope, now, 100)), [second])
    }),

  "a reader of concurrently written events misses none and sees each session's events in order": () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const [stories, length] = [20, 8]
      let writing = true
      const write = Effect.all(
        Array.from({ length: stories }, (_, i) =>
          i % 4 === 0
            ? Effect.andThen(createSessionWithEvents(other, length), createSessionWithEvents(scope, length))
            : createSessionWithEvents(scope, length)
        ),
        { concurrency: "unbounded" }
      ).pipe(Effect.ensuring(Effect.sync(() => (writing = false))))
      const reader = Effect.fnUntraced(function* (from: EventCursor | null, limit: number) {
        const read: Array<EventWithCursor> = []
        const after = () => read.at(-1)?.cursor ?? from
        while (writing) {
          read.push(...(yield* store.read(scope, after(), limit)))
          yield* Effect.yieldNow
        }
        return [...read, ...(yield* readAll(scope, after(), limit))]
      })
      const latecomer = Effect.gen(function* () {
        yield* Effect.sleep("10 millis")
        return yield* reader(yield* store.latest(scope), 100)
      })
      const [ids, late, slow, ...quick] = yield* Effect.all(
        [write, latecomer, reader(null, 3), reader(null, 100), reader(null, 100)],
        { concurrency: "unbounded" }
      )
      const whole = yield* readAll(scope, null, 100)
      assert.lengthOf(whole, stories * length)
      for (const read of [slow, ...quick]) assert.deepStrictEqual(read, whole)
      assert.deepStrictEqual(late, whole.slice(whole.length - late.length))
      for (const id of ids) {
        const story = whole.filter(({ event }) => event.session === id).map(({ event }) => event.reason)
        assert.deepStrictEqual(story, [null, null, "2", null, "4", null, "6", null])
      }
    }),

  "an event has the code and the sentence of its change": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      let session = given.session(scope, { lifecycle: given.lifecycle({ state: "active" }) })
      yield* store.add(scope, session)
      const changes = [
        SessionTransition.Hibernate({
          leaseExpiresAt: at(5000),
          reason: { code: "idle_timeout", sentence: "it was idle" }
        }),
        SessionTransition.Hibernated({ reason: { code: "stopped", sentence: null } }),
        SessionTransition.Restore({ leaseExpiresAt: at(5000), lost: false }),
        SessionTransition.Fail({ error: "it broke", code: "internal_error" })
      ]
      for (const change of changes) {
        const step = given.step(session, change)
        yield* store.compareAndSet(scope, step)
        session = step.after
      }
      assert.deepStrictEqual(
        (yield* readAll(scope, null, 100)).map(({ event }) => [event.type, event.code, event.reason]),
        [
          ["session.created", "created", null],
          ["session.hibernating", "idle_timeout", "it was idle"],
          ["session.hibernated", "stopped", null],
          ["session.restoring", "user_requested", null],
          ["session.failed", "provision_failed", "it broke"]
        ]
      )
    }),

  "a sweep deletes the events before a time for all accounts, and readers continue from their cursors": () =>
    Effect.gen(function* () {
      const store = yield* EventStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      // Earlier than the events of all other clauses, so that the sweep keeps those.
      yield* createSession(one, -2000)
      yield* createSession(two, -2000)
      const [gone] = yield* readAll(one, null, 100)
      const kept = yield* createSession(one, -1000)
      yield* store.sweep(at(-1000))
      assert.deepStrictEqual(sessionsOf(yield* readAll(one, null, 100)), [kept])
      assert.deepStrictEqual(yield* readAll(two, null, 100), [])
      assert.deepStrictEqual(sessionsOf(yield* readAll(one, gone!.cursor, 100)), [kept])
      const latest = yield* store.latest(two)
      const next = yield* createSession(two, -500)
      assert.deepStrictEqual(sessionsOf(yield* readAll(two, latest, 100)), [next])
    }),

  "a text with a NUL character can be written": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = given.session(scope, { lifecycle: given.lifecycle({ state: "restoring" }) })
      yield* store.add(scope, session)
      yield* store.compareAndSet(
        scope,
        given.step(session, SessionTransition.Fail({ error: "a\0b", code: "internal_error" }))
      )
      const [, failed] = yield* readAll(scope, null, 100)
      assert.strictEqual(failed?.event.reason?.replaceAll("\0", "\uFFFD"), "a\uFFFDb")
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<Ports, E>) =>
  runContract("EventStore", subject, layer, { clauses })
