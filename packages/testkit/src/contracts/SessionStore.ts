import { AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { BranchName } from "@castellan/domain/repo/Repo.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxEvent } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Move } from "@castellan/domain/session/Lifecycle.ts"
import { Lifecycle, LifecycleState, Session, SessionId } from "@castellan/domain/session/Session.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer, Option } from "effect"
import * as given from "../given.ts"
import { holds, type Promises } from "./holds.ts"
import { assertUntouched } from "./untouched.ts"

const at = (millis: number) => DateTime.makeUnsafe(millis)

/** A session that is due then; far from what other promises write, so that theirs don't count. */
const dueAt = (scope: AccountScope, lookAt: number) =>
  given.session(scope, { lifecycle: given.lifecycle({ lookAt: at(lookAt), version: 3 }) })

const sleeping = (scope: AccountScope) =>
  given.session(scope, {
    lifecycle: given.lifecycle({ state: "hibernated", sandbox: SandboxName.make("ses_x"), version: 4 })
  })

const restore = Move.Restore({ until: at(5000), lost: false })

const everything = { limit: 100, cursor: null }

const atOnce = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.all(effects, { concurrency: "unbounded" })

export const promises: Promises<SessionStore | EventStore | IdentityStore> = {
  "a session is found as it was written, by its account only": () =>
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
          lookAt: at(3_004),
          fresh: false,
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

  "writing an id twice gives back the row that stands": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = given.session(scope)
      const others = Array.from({ length: 8 }, () => new Session({ ...session, title: "another" }))
      yield* store.add(scope, session)
      for (const stands of yield* atOnce(others.map((other) => store.add(scope, other)))) {
        assert.deepStrictEqual(stands, Option.some(session))
      }
    }),

  "an id of another account is not given, and stays": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = given.session(one)
      yield* store.add(one, session)
      assert.isTrue(Option.isNone(yield* store.add(two, new Session({ ...session, account: two.account }))))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      assert.deepStrictEqual((yield* store.list(two, everything)).rows, [])
    }),

  "a session is written for the scope's account, whatever it says of itself": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = given.session(two)
      yield* store.add(one, session)
      const written = new Session({ ...session, account: one.account })
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(written))
      assert.isTrue(Option.isNone(yield* store.get(two, session.id)))
    }),

  "it is told whose a session is": () =>
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

  "sessions are listed newest first without those that are ephemeral, in pages that lose and repeat none": () =>
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

  "a cursor of a moment after every row gives the beginning": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      yield* store.add(scope, given.session(scope))
      const beginning = yield* store.list(scope, everything)
      const cursor = Cursor.make("999999999999999_x")
      assert.deepStrictEqual(yield* store.list(scope, { limit: 100, cursor }), beginning)
    }),

  "what is named of a session is changed, by its account only, and its version stays": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = sleeping(one)
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

  "an archived session keeps its status, and one that has a repository keeps that": () =>
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

  "a step is written if the stored version is the one before, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = sleeping(one)
      const step = given.step(session, restore)
      assert.isFalse(yield* store.take(one, step))
      yield* store.add(one, session)
      assert.isFalse(yield* store.take(two, step))
      assert.isFalse(
        yield* store.take(one, given.step(step.session, Move.Fail({ error: "too early", code: "internal_error" })))
      )
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      assert.isTrue(yield* store.take(one, step))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(step.session))
      assert.isFalse(yield* store.take(one, step))
      const silent = given.step(step.session, Move.TakeOver({ until: at(9000) }))
      assert.isNull(silent.event)
      assert.isTrue(yield* store.take(one, silent))
      assert.isFalse(yield* store.take(one, silent))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(silent.session))
    }),

  "a step that says where the working tree is is written with it, and those that follow leave it": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = sleeping(scope)
      assert.isFalse(session.lifecycle.workspace)
      yield* store.add(scope, session)
      const times = { expiresAt: at(9000), idleAt: at(8000), lookAt: at(7000) }
      const moves = [
        restore,
        Move.Run({ ...times, incarnation: "run", workspace: true, branch: BranchName.make("main") }),
        Move.Hibernate({ until: at(9000), reason: "why" }),
        Move.Sleep({ reason: null })
      ]
      let last = session
      for (const move of moves) {
        const step = given.step(last, move)
        assert.isTrue(yield* store.take(scope, step))
        last = Option.getOrThrow(yield* store.get(scope, session.id))
        assert.deepStrictEqual(last, step.session)
      }
      assert.isTrue(last.lifecycle.workspace)
    }),

  "of many that take the same version at once one does, and that is told": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      for (let round = 0; round < 3; round++) {
        const scope = yield* given.scope
        const session = sleeping(scope)
        yield* store.add(scope, session)
        const steps = Array.from({ length: 20 }, (_, i) =>
          given.step(session, Move.Restore({ until: at(5000 + i), lost: i % 2 === 0 }))
        )
        const taken = yield* atOnce(steps.map((step) => store.take(scope, step)))
        const [winner, ...others] = steps.filter((_, i) => taken[i])
        assert.deepStrictEqual(others, [])
        assert.deepStrictEqual(yield* store.get(scope, session.id), Option.some(winner!.session))
        const told = yield* (yield* EventStore).read(scope, null, 100)
        assert.deepStrictEqual(
          told.slice(1).map(({ event }) => event),
          [winner!.event]
        )
      }
    }),

  "a step leaves what is not the lifecycle as it is stored, and the status unless it archives or takes out again": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = sleeping(scope)
      yield* store.add(scope, session)
      const change = { title: "new", status: "completed", repo: "https://h/o/r" } as const
      const write = (from: Session, move: Move) => {
        const step = given.step(from, move)
        return Effect.as(store.take(scope, step), step.session)
      }
      yield* store.change(scope, session.id, change, at(12))
      const restoring = yield* write(session, restore)
      const stored = new Session({ ...restoring, ...change })
      assert.deepStrictEqual(yield* store.get(scope, session.id), Option.some(stored))
      const failed = yield* write(stored, Move.Fail({ error: "it broke", code: "internal_error" }))
      const putAway = yield* write(failed, Move.Archive({ until: at(5000) }))
      yield* store.change(scope, session.id, { status: "failed" }, at(13))
      const archived = Option.getOrThrow(yield* store.get(scope, session.id))
      assert.deepStrictEqual([archived.status, archived.lifecycle], ["archived", putAway.lifecycle])
      const asleep = yield* write(archived, Move.Sleep({ reason: null }))
      assert.strictEqual(Option.getOrThrow(yield* store.get(scope, session.id)).status, "archived")
      const out = yield* write(asleep, Move.Unarchive())
      const again = Option.getOrThrow(yield* store.get(scope, session.id))
      assert.deepStrictEqual(again, new Session({ ...out, ...change, status: "running" }))
    }),

  "a look is postponed while the version stands, by its account only, and all else stays": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = dueAt(one, 1_000_000)
      yield* store.add(one, session)
      assert.isFalse(yield* store.postpone(one, session.id, 2, at(2_000_000)))
      assert.isFalse(yield* store.postpone(two, session.id, 3, at(2_000_000)))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      assert.isTrue(yield* store.postpone(one, session.id, 3, at(2_000_000)))
      assert.isTrue(yield* store.postpone(one, session.id, 3, at(2_000_001)))
      const later = new Lifecycle({ ...session.lifecycle, lookAt: at(2_000_001) })
      const postponed = new Session({ ...session, lifecycle: later })
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(postponed))
    }),

  "due are the sessions of all accounts whose look has come, the longest waiting first, as many as asked for": () =>
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
        (row) => new Session({ ...row, lifecycle: new Lifecycle({ ...row.lifecycle, lookAt: until }) })
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

  "each due session is given to one of many that claim at once": () =>
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
    }),

  "awake are the account's sessions whose sandbox runs or is about to, also those that are ephemeral": () =>
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
      const session = sleeping(two)
      yield* store.add(two, session)
      const woken = given.step(session, restore)
      yield* store.take(two, woken)
      assert.strictEqual(yield* store.countAwake(two), 1)
      yield* store.take(two, given.step(woken.session, Move.Fail({ error: "it broke", code: "internal_error" })))
      assert.strictEqual(yield* store.countAwake(two), 0)
    }),

  "a session is forgotten at its version, once, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [session, other] = [sleeping(one), sleeping(one)]
      for (const row of [session, other]) yield* store.add(one, row)
      assert.isFalse(yield* store.remove(two, session, at(9)))
      const { session: next } = given.step(session, restore)
      assert.isFalse(yield* store.remove(one, next, at(9)))
      assert.deepStrictEqual(yield* store.get(one, session.id), Option.some(session))
      const removed = yield* atOnce(Array.from({ length: 8 }, () => store.remove(one, session, at(9))))
      assert.lengthOf(removed.filter(Boolean), 1)
      assert.isTrue(Option.isNone(yield* store.get(one, session.id)))
      assert.deepStrictEqual(yield* store.get(one, other.id), Option.some(other))
    }),

  "a write leaves every other session as it is": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = sleeping(one)
      yield* store.add(one, session)
      const began = given.step(session, restore)
      const failed = given.step(began.session, Move.Fail({ error: "it broke", code: "internal_error" }))
      // Others at each version that a write names, of the account and of another.
      const others = [one, two].flatMap((scope) =>
        [session, began.session, failed.session].map((at) => given.session(scope, { lifecycle: at.lifecycle }))
      )
      for (const other of others) yield* store.add(AccountScope.ofOwner(other), other)
      const rows = Object.fromEntries(others.map((row, i) => [`${i}`, store.get(AccountScope.ofOwner(row), row.id)]))
      yield* assertUntouched(rows, {
        add: store.add(one, given.session(one)),
        change: store.change(one, session.id, { title: "new", status: "completed", repo: "https://h/o/r" }, at(9)),
        postpone: store.postpone(one, session.id, session.lifecycle.version, at(9_000_000)),
        take: store.take(one, began),
        "take of another step": store.take(one, failed),
        remove: store.remove(one, failed.session, at(9))
      })
      assert.isTrue(Option.isNone(yield* store.get(one, session.id)))
    }),

  "that a session was created, each of its steps that says so, and that it was removed are told once": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const session = new Session({ ...sleeping(one), createdAt: at(1_001) })
      for (const scope of [one, one, two]) yield* store.add(scope, session)
      const began = given.step(session, restore)
      const silent = given.step(began.session, Move.TakeOver({ until: at(6000) }))
      const failed = given.step(silent.session, Move.Fail({ error: "it's broken", code: "internal_error" }))
      for (const step of [began, began, failed, silent, failed]) yield* store.take(one, step)
      yield* store.change(one, session.id, { title: "new" }, at(10))
      yield* store.postpone(one, session.id, failed.session.lifecycle.version, at(7_000_000))
      for (const row of [session, failed.session, failed.session]) yield* store.remove(one, row, at(9_999))
      const { lifecycle } = failed.session
      const of = { account: one.account, sandbox: lifecycle.sandbox, session: session.id, reason: null }
      const events = yield* (yield* EventStore).read(one, null, 100)
      assert.deepStrictEqual(
        events.map(({ event }) => event),
        [
          new SandboxEvent({ ...of, type: "session.created", at: at(1_001) }),
          began.event!,
          failed.event!,
          new SandboxEvent({ ...of, type: "session.removed", at: at(9_999) })
        ]
      )
      assert.deepStrictEqual(yield* (yield* EventStore).read(two, null, 100), [])
    }),

  "a NUL in a text breaks nothing": () =>
    Effect.gen(function* () {
      const store = yield* SessionStore
      const scope = yield* given.scope
      const session = new Session({ ...sleeping(scope), title: "a\0b" })
      const clean = (text: string | null | undefined) => text?.replaceAll("\0", "\uFFFD")
      assert.strictEqual(clean(Option.getOrThrow(yield* store.add(scope, session)).title), "a\uFFFDb")
      const change = { title: "\0c", repo: "d\0" }
      const changed = Option.getOrThrow(yield* store.change(scope, session.id, change, at(5)))
      assert.deepStrictEqual([clean(changed.title), clean(changed.repo)], ["\uFFFDc", "d\uFFFD"])
      const began = given.step(changed, restore)
      yield* store.take(scope, began)
      assert.isTrue(
        yield* store.take(scope, given.step(began.session, Move.Fail({ error: "e\0f", code: "internal_error" })))
      )
      assert.strictEqual(clean(Option.getOrThrow(yield* store.get(scope, session.id)).lifecycle.error), "e\uFFFDf")
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<SessionStore | EventStore | IdentityStore, E>) =>
  holds("SessionStore", subject, layer, promises)
