import { AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { BranchName } from "@castellan/domain/repo/Repo.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SessionTransition } from "@castellan/domain/session/SessionLifecycle.ts"
import { Lifecycle, LifecycleState, Session } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { assertUnchanged } from "../assertUnchanged.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { hibernatedSession, restore } from "./fixtures.ts"

const everything = { limit: 100, cursor: null }

export const rows: Clauses<SessionStore | EventStore | IdentityStore> = {
  "a session is found as it was added, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = given.session(one, {
        title: "tïtle",
        status: "failed",
        organization: AccountId.make(two.account),
        repo: "https://h/ö/r",
        ephemeral: true,
        createdAt: at(1_123),
        updatedAt: at(2_456),
        lifecycle: new Lifecycle({
          state: "active",
          version: 7,
          sandbox: SandboxName.make("ses_x"),
          incarnation: "ïnc",
          lastActivityAt: at(3_001),
          hibernateAfter: at(3_002),
          sandboxExpiresAt: at(3_003),
          nextCheckAt: at(3_004),
          needsCheckout: false,
          workspace: true,
          branch: BranchName.make("main"),
          attempt: 2,
          error: "it's gone",
          errorCode: "provider_lost"
        })
      })
      assert.deepStrictEqual(yield* store.add(one, session), Option.some(session))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      assert.isTrue(Option.isNone(yield* store.get(two, session.id)))
      const empty = given.session(one)
      assert.isTrue(Option.isNone(yield* store.get(one, empty.id)))
      yield* store.add(one, empty)
      assert.deepStrictEqual(yield* store.get(one, empty.id), Option.some(empty))
    }),

  "adding an id twice returns the existing row": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = given.session(scope)
      const others = Array.from({ length: 8 }, () => new Session({ ...session, title: "another" }))
      yield* store.add(scope, session)
      for (const existing of yield* atOnce(others.map((other) => store.add(scope, other)))) {
        assert.deepStrictEqual(existing, Option.some(session))
      }
    }),

  "an id that belongs to another account is refused and unchanged": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = given.session(one)
      yield* store.add(one, session)
      assert.isTrue(Option.isNone(yield* store.add(two, new Session({ ...session, account: two.account }))))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      assert.deepStrictEqual((yield* store.list(two, everything)).rows, [])
    }),

  "a session is added for the scope's account even if it names another": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = given.session(two)
      yield* store.add(one, session)
      const written = new Session({ ...session, account: one.account })
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(written))
      assert.isTrue(Option.isNone(yield* store.get(two, session.id)))
    }),

  "ownerOf returns the account of a session": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second] = [given.session(one), given.session(two)]
      yield* store.add(one, first)
      yield* store.add(two, second)
      assert.deepStrictEqual(yield* store.ownerOf(first.id), Option.some(one.account))
      assert.deepStrictEqual(yield* store.ownerOf(second.id), Option.some(two.account))
      assert.isTrue(Option.isNone(yield* store.ownerOf(given.session(one).id)))
    }),

  "sessions that are not ephemeral are listed newest first, in pages that have every session once": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const times = [5, 1, 3, 3, 3, 2, 5]
      const made = times.map((time) => given.session(scope, { createdAt: at(time) }))
      for (const session of made) yield* store.add(scope, session)
      yield* store.add(scope, given.session(scope, { createdAt: at(4), ephemeral: true }))
      yield* store.add(other, given.session(other, { createdAt: at(3) }))
      const read: Array<Session> = []
      let cursor: Cursor | null = null
      do {
        const page: { rows: ReadonlyArray<Session>; next: Cursor | null } = yield* store.list(scope, {
          limit: 2,
          cursor
        })
        assert.isAtMost(page.rows.length, 2)
        read.push(...page.rows)
        cursor = page.next
      } while (cursor !== null)
      assert.deepStrictEqual(
        read.map(({ createdAt }) => createdAt.epochMilliseconds),
        times.toSorted().toReversed()
      )
      assert.sameDeepMembers(read, made)
      const whole = yield* store.list(scope, { limit: times.length, cursor: null })
      assert.deepStrictEqual([whole.rows, whole.next], [read, null])
    }),

  "a cursor later than every row returns the first page": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      yield* store.add(scope, given.session(scope))
      const beginning = yield* store.list(scope, everything)
      const cursor = Cursor.make("999999999999999_x")
      assert.deepStrictEqual(yield* store.list(scope, { limit: 100, cursor }), beginning)
    }),

  "a change sets the named fields only, for the session's account only, and keeps the version": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = hibernatedSession(one)
      yield* store.add(one, session)
      assert.isTrue(Option.isNone(yield* store.change(two, session.id, { title: "theirs" }, at(10))))
      assert.isTrue(Option.isNone(yield* store.change(one, given.session(one).id, { title: "no one's" }, at(10))))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      const titled = new Session({ ...session, title: "new", updatedAt: at(11) })
      assert.deepStrictEqual(yield* store.change(one, session.id, { title: "new" }, at(11)), Option.some(titled))
      const change = { status: "completed", repo: "https://h/o/r" } as const
      const both = new Session({ ...titled, ...change, updatedAt: at(12) })
      assert.deepStrictEqual(yield* store.change(one, session.id, change, at(12)), Option.some(both))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(both))
    }),

  "a change does not replace the status of an archived session or a repository that is set": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = given.session(scope, { status: "archived", repo: "https://h/o/r" })
      yield* store.add(scope, session)
      const change = { status: "running", repo: "https://h/o/s", title: "new" } as const
      const changed = new Session({ ...session, title: "new", updatedAt: at(12) })
      assert.deepStrictEqual(yield* store.change(scope, session.id, change, at(12)), Option.some(changed))
      const bound = given.session(scope)
      yield* store.add(scope, bound)
      const repos = Array.from({ length: 8 }, (_, i) => `https://h/o/${i}`)
      const answers = yield* atOnce(repos.map((repo) => store.change(scope, bound.id, { repo }, at(12))))
      const first = Option.getOrThrow(yield* store.get(scope, bound.id)).repo
      assert.include(repos, first)
      for (const one of answers) assert.strictEqual(Option.getOrThrow(one).repo, first)
    }),

  "listAwake returns the account's sessions whose sandbox runs or is about to run, ephemeral ones included": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      assert.strictEqual(yield* store.countAwake(one), 0)
      const states = [null, ...LifecycleState.literals]
      for (const state of states) {
        const before = yield* store.countAwake(one)
        const lifecycle = given.lifecycle({ state, sandbox: SandboxName.make("ses_x"), version: 4 })
        yield* store.add(one, given.session(one, { lifecycle }))
        yield* store.add(one, given.session(one, { lifecycle, ephemeral: true }))
        const isAwake = ["provisioning", "active", "restoring", "hibernating"].includes(`${state}`)
        assert.strictEqual((yield* store.countAwake(one)) - before, isAwake ? 2 : 0, `${state}`)
      }
      assert.strictEqual(yield* store.countAwake(two), 0)
      const session = hibernatedSession(two)
      yield* store.add(two, session)
      const woken = given.step(session, restore)
      yield* store.compareAndSet(two, woken)
      assert.strictEqual(yield* store.countAwake(two), 1)
      yield* store.compareAndSet(
        two,
        given.step(woken.after, SessionTransition.Fail({ error: "it broke", code: "internal_error" }))
      )
      assert.strictEqual(yield* store.countAwake(two), 0)
    }),

  "a session is removed once, at its version, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [session, other] = [hibernatedSession(one), hibernatedSession(one)]
      for (const row of [session, other]) yield* store.add(one, row)
      assert.isFalse(yield* store.remove(two, session, at(9)))
      const { after: next } = given.step(session, restore)
      assert.isFalse(yield* store.remove(one, next, at(9)))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      const removed = yield* atOnce(Array.from({ length: 8 }, () => store.remove(one, session, at(9))))
      assert.lengthOf(removed.filter(Boolean), 1)
      assert.isTrue(Option.isNone(yield* store.get(one, session.id)))
      assert.deepStrictEqual(yield* store.get(one, other.id), Option.some(other))
    }),

  "a write does not change any other session": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = hibernatedSession(one)
      yield* store.add(one, session)
      const began = given.step(session, restore)
      const failed = given.step(began.after, SessionTransition.Fail({ error: "it broke", code: "internal_error" }))
      // Rows of this and another account at each version that a write names.
      const others = [one, two].flatMap((scope) =>
        [session, began.after, failed.after].map((at) => given.session(scope, { lifecycle: at.lifecycle }))
      )
      for (const other of others) yield* store.add(AccountScope.ofOwner(other), other)
      const rows = Object.fromEntries(others.map((row, i) => [`${i}`, store.get(AccountScope.ofOwner(row), row.id)]))
      yield* assertUnchanged(rows, {
        add: store.add(one, given.session(one)),
        change: store.change(one, session.id, { title: "new", status: "completed", repo: "https://h/o/r" }, at(9)),
        postpone: store.setNextCheck(one, session.id, session.lifecycle.version, at(9_000_000)),
        take: store.compareAndSet(one, began),
        "take of another step": store.compareAndSet(one, failed),
        remove: store.remove(one, failed.after, at(9))
      })
      assert.isTrue(Option.isNone(yield* store.get(one, session.id)))
    }),

  "a text with a NUL character can be written": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = new Session({ ...hibernatedSession(scope), title: "a\0b" })
      const clean = (text: string | null | undefined) => text?.replaceAll("\0", "\uFFFD")
      assert.strictEqual(clean(Option.getOrThrow(yield* store.add(scope, session)).title), "a\uFFFDb")
      const change = { title: "\0c", repo: "d\0" }
      const changed = Option.getOrThrow(yield* store.change(scope, session.id, change, at(5)))
      assert.deepStrictEqual([clean(changed.title), clean(changed.repo)], ["\uFFFDc", "d\uFFFD"])
      const began = given.step(changed, restore)
      yield* store.compareAndSet(scope, began)
      assert.isTrue(
        yield* store.compareAndSet(
          scope,
          given.step(began.after, SessionTransition.Fail({ error: "e\0f", code: "internal_error" }))
        )
      )
      assert.strictEqual(clean(Option.getOrThrow(yield* store.get(scope, session.id)).lifecycle.error), "e\uFFFDf")
    })
}
