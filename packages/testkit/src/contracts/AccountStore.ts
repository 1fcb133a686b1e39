import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { AccountTotal } from "@castellan/domain/account/AccountTotal.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Cursor, type PageOf } from "@castellan/domain/Page.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxEvent, type SandboxEventType } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxQuotaReached } from "@castellan/domain/sandbox/SandboxQuota.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer, Option, Result } from "effect"
import { SecureRandom } from "effect/crypto"
import * as given from "../given.ts"
import { holds, type Promises } from "./holds.ts"

const at = (millis: number) => DateTime.makeUnsafe(millis)

const sandboxOf = (scope: AccountScope, more: Partial<AccountSandbox> = {}) =>
  new AccountSandbox({
    name: SandboxName.make(`sbx_${SecureRandom.uuidV4Unsafe()}`),
    account: scope.account,
    status: "pending",
    createdAt: at(1_700_000_000_123),
    expiresAt: null,
    reason: null,
    removedAt: null,
    ...more
  })

/** More than any promise writes. */
const many = 1000

const everything = { limit: 100, cursor: null }

export const promises: Promises<AccountStore | EventStore | IdentityStore> = {
  "a row is found as it was written": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const sandbox = sandboxOf(scope, { status: "failed", reason: "därüm", expiresAt: at(1_700_000_999_456) })
      assert.deepStrictEqual(yield* store.add(scope, sandbox, many), Option.some(sandbox))
      assert.deepStrictEqual(yield* store.get(scope, sandbox.name), Option.some(sandbox))
      assert.isTrue(Option.isNone(yield* store.get(scope, SandboxName.make("sbx_none"))))
    }),

  "writing a name twice gives back the row that stands": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const sandbox = sandboxOf(scope)
      yield* store.add(scope, sandbox, many)
      const again = yield* store.add(
        scope,
        new AccountSandbox({ ...sandbox, status: "running", createdAt: at(5) }),
        many
      )
      assert.deepStrictEqual(again, Option.some(sandbox))
    }),

  "a name of another account is not given, and stays": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const sandbox = sandboxOf(one)
      yield* store.add(one, sandbox, many)
      assert.isTrue(Option.isNone(yield* store.add(two, sandboxOf(two, { name: sandbox.name }), many)))
      assert.isTrue(Option.isNone(yield* store.get(two, sandbox.name)))
      assert.deepStrictEqual(yield* store.get(one, sandbox.name), Option.some(sandbox))
      assert.deepStrictEqual((yield* store.list(two, everything)).rows, [])
    }),

  "a row is written for the scope's account, whatever it says of itself": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const sandbox = sandboxOf(two)
      yield* store.add(one, sandbox, many)
      assert.isTrue(Option.isSome(yield* store.get(one, sandbox.name)))
      assert.isTrue(Option.isNone(yield* store.get(two, sandbox.name)))
    }),

  "no account gets more live sandboxes than its limit, however many ask at once": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      for (let round = 0; round < 5; round++) {
        const [scope, other] = [yield* given.scope, yield* given.scope]
        yield* store.add(other, sandboxOf(other), 1)
        const asked = Array.from({ length: 10 }, () => Effect.result(store.add(scope, sandboxOf(scope), 3)))
        const answers = yield* Effect.all(asked, { concurrency: "unbounded" })
        const refusals = answers.filter(Result.isFailure).map(({ failure }) => failure)
        const refusal = new SandboxQuotaReached({ account: scope.account, limit: 3 })
        assert.deepStrictEqual(refusals, Array<SandboxQuotaReached>(7).fill(refusal))
        const { rows } = yield* store.list(scope, everything)
        const written = answers.filter(Result.isSuccess).map(({ success }) => Option.getOrThrow(success).name)
        assert.sameMembers(
          rows.map(({ name }) => name),
          written
        )
      }
    }),

  "those count as live that are pending, running or stopping and have not expired": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const isFull = Effect.fnUntraced(function* (one: Partial<AccountSandbox>) {
        const scope = yield* given.scope
        yield* store.add(scope, sandboxOf(scope, { createdAt: at(1000), ...one }), 1)
        return Result.isFailure(yield* Effect.result(store.add(scope, sandboxOf(scope, { createdAt: at(2000) }), 1)))
      })
      for (const status of ["pending", "running", "stopping"] as const) {
        assert.isTrue(yield* isFull({ status }), status)
        assert.isTrue(yield* isFull({ status, expiresAt: at(2001) }), status)
        for (const expired of [1500, 2000]) assert.isFalse(yield* isFull({ status, expiresAt: at(expired) }), status)
      }
      for (const status of ["stopped", "failed"] as const) {
        for (const expiresAt of [null, at(2001)]) assert.isFalse(yield* isFull({ status, expiresAt }), status)
      }
    }),

  "the row that stands is given back to an account that is full": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const first = sandboxOf(scope)
      yield* store.add(scope, first, 1)
      assert.isTrue(Result.isFailure(yield* Effect.result(store.add(scope, sandboxOf(scope), 1))))
      assert.deepStrictEqual(yield* store.add(scope, first, 1), Option.some(first))
    }),

  "rows are listed newest first, in pages that lose and repeat none": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const times = [5, 1, 3, 3, 3, 2, 5]
      const made: Array<AccountSandbox> = times.map((time) => sandboxOf(scope, { createdAt: at(time) }))
      for (const sandbox of made) yield* store.add(scope, sandbox, many)
      yield* store.add(other, sandboxOf(other, { createdAt: at(3) }), many)
      const read: Array<AccountSandbox> = []
      let cursor: Cursor | null = null
      do {
        const page: { rows: ReadonlyArray<AccountSandbox>; next: Cursor | null } = yield* store.list(scope, {
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
      assert.deepStrictEqual(new Set(read.map(({ name }) => name)), new Set(made.map(({ name }) => name)))
      const whole = yield* store.list(scope, { limit: times.length, cursor: null })
      assert.deepStrictEqual([whole.rows, whole.next], [read, null])
    }),

  "a cursor of a moment after every row gives the beginning": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      yield* store.add(scope, sandboxOf(scope), many)
      const beginning = yield* store.list(scope, everything)
      const cursor = Cursor.make("999999999999999_x")
      assert.deepStrictEqual(yield* store.list(scope, { limit: 100, cursor }), beginning)
    }),

  "a NUL in a text breaks nothing": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const sandbox = sandboxOf(scope, { reason: "a\0b" })
      const reason = Effect.map(store.get(scope, sandbox.name), (found) =>
        Option.getOrThrow(found).reason?.replaceAll("\0", "\uFFFD")
      )
      yield* store.add(scope, sandbox, many)
      assert.strictEqual(yield* reason, "a\uFFFDb")
      yield* store.see(scope, [{ name: sandbox.name, status: "failed", expiresAt: null, reason: "\0c" }])
      assert.strictEqual(yield* reason, "\uFFFDc")
    }),

  "what was seen is recorded, of the scope's account only": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second, foreign] = [sandboxOf(one), sandboxOf(one), sandboxOf(two)]
      for (const sandbox of [first, second]) yield* store.add(one, sandbox, many)
      yield* store.add(two, foreign, many)
      const running = { status: "running", expiresAt: at(99), reason: null } as const
      const failed = { status: "failed", expiresAt: null, reason: "it's over" } as const
      const recorded = yield* store.see(one, [
        { name: first.name, ...running },
        { name: second.name, ...failed },
        { name: foreign.name, ...failed },
        { name: SandboxName.make("sbx_none"), ...failed }
      ])
      assert.deepStrictEqual(recorded, new Set([first.name, second.name]))
      assert.deepStrictEqual(yield* store.see(one, []), new Set())
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

  "a row whose files were removed stays as it is, whatever is seen": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const sandbox = sandboxOf(scope)
      yield* store.add(scope, sandbox, many)
      yield* store.removed(scope, [sandbox.name], at(50), "deleted")
      const row = yield* store.get(scope, sandbox.name)
      const late = { name: sandbox.name, status: "running", expiresAt: at(99), reason: null } as const
      assert.deepStrictEqual(yield* store.see(scope, [late]), new Set())
      assert.deepStrictEqual(yield* store.get(scope, sandbox.name), row)
    }),

  "unfinished are the old pending rows of all accounts, oldest first, as many as asked for": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      // Long before what other promises write, so that theirs don't count.
      const rows = [
        sandboxOf(one, { createdAt: at(-3000) }),
        sandboxOf(two, { createdAt: at(-2000) }),
        sandboxOf(one, { createdAt: at(-1000) })
      ]
      const settled = sandboxOf(one, { createdAt: at(-2500), status: "running" })
      for (const row of [rows[1]!, rows[2]!, rows[0]!, settled]) yield* store.add(AccountScope.ofOwner(row), row, many)
      assert.deepStrictEqual(yield* store.listUnfinished(at(-1000), 10), [rows[0]!, rows[1]!])
      assert.deepStrictEqual(yield* store.listUnfinished(at(-999), 1), [rows[0]!])
    }),

  "kept are the rows whose files were not removed, of the scope's account, oldest first, as many as asked for": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const rows = [
        sandboxOf(scope, { createdAt: at(1), status: "stopped", expiresAt: at(9) }),
        sandboxOf(scope, { createdAt: at(2), status: "running", expiresAt: at(5) }),
        sandboxOf(scope, { createdAt: at(3) })
      ]
      const removed = sandboxOf(scope, { createdAt: at(2), status: "stopped", removedAt: at(9) })
      for (const row of [rows[1]!, removed, rows[2]!, rows[0]!, sandboxOf(other)]) {
        yield* store.add(AccountScope.ofOwner(row), row, many)
      }
      assert.deepStrictEqual(yield* store.listKept(scope, 100), rows)
      assert.deepStrictEqual(yield* store.listKept(scope, 2), rows.slice(0, 2))
    }),

  "expired are the rows of all accounts that were over and whose files were not removed, those over longest first":
    () =>
      Effect.gen(function* () {
        const store = yield* AccountStore
        const [one, two] = [yield* given.scope, yield* given.scope]
        // Long before what other promises write, so that theirs don't count.
        const early = -1_000_000
        const rows = [
          sandboxOf(one, { createdAt: at(early - 9), expiresAt: at(early - 4), status: "running" }),
          sandboxOf(two, { createdAt: at(early - 3), expiresAt: null, status: "failed" }),
          sandboxOf(one, { createdAt: at(early - 8), expiresAt: at(early - 2), status: "stopped" }),
          sandboxOf(two, { createdAt: at(early - 10), expiresAt: at(early - 1), status: "stopping" })
        ]
        const others = [
          sandboxOf(one, { createdAt: at(early - 9), expiresAt: at(early), status: "stopped" }),
          sandboxOf(one, { createdAt: at(early), expiresAt: null, status: "failed" }),
          sandboxOf(two, {
            createdAt: at(early - 9),
            expiresAt: at(early - 4),
            status: "stopped",
            removedAt: at(early)
          }),
          sandboxOf(two, { createdAt: at(early - 9), expiresAt: null, status: "pending" }),
          sandboxOf(two, { createdAt: at(early - 9), expiresAt: at(early - 4), status: "pending" })
        ]
        for (const row of [rows[2]!, rows[0]!, ...others, rows[3]!, rows[1]!]) {
          yield* store.add(AccountScope.ofOwner(row), row, many)
        }
        assert.deepStrictEqual(yield* store.listExpired(at(early), 100), rows)
        assert.deepStrictEqual(yield* store.listExpired(at(early), 2), rows.slice(0, 2))
      }),

  "that files were removed is recorded once, of the scope's account only": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [running, failed, left] = [
        sandboxOf(one, { status: "running", expiresAt: at(5) }),
        sandboxOf(one, { status: "failed", reason: "it never began" }),
        sandboxOf(one, { status: "stopped" })
      ]
      const foreign = sandboxOf(two, { status: "running" })
      for (const row of [running, failed, left, foreign]) yield* store.add(AccountScope.ofOwner(row), row, many)
      const names = [running, failed, foreign].map(({ name }) => name)
      yield* store.removed(one, [...names, SandboxName.make("sbx_none")], at(7), "it's long ago")
      yield* store.removed(one, names, at(8), "again")
      yield* store.removed(one, [], at(9), "nothing")
      const removed = { removedAt: at(7), reason: "it's long ago" }
      const wanted = [
        new AccountSandbox({ ...running, ...removed, status: "stopped" }),
        new AccountSandbox({ ...failed, ...removed }),
        left
      ]
      for (const row of wanted) assert.deepStrictEqual(yield* store.get(one, row.name), Option.some(row))
      assert.deepStrictEqual(yield* store.get(two, foreign.name), Option.some(foreign))
    }),

  "a new row, a change of its status and that its files were removed are told once, and nothing else is": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [sandbox, other] = [sandboxOf(one, { createdAt: at(1_001) }), sandboxOf(one, { createdAt: at(1_002) })]
      for (const row of [sandbox, sandbox, other, other]) yield* store.add(one, row, many)
      yield* Effect.exit(store.add(one, sandboxOf(one), 0))
      yield* store.add(two, sandbox, many)
      const begun = yield* DateTime.now
      const sees = (status: AccountSandbox["status"], reason: string | null, expiresAt = at(99)) =>
        store.see(one, [
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
      yield* store.see(two, [{ name: sandbox.name, status: "failed", reason: null, expiresAt: null }])
      const ended = yield* DateTime.now
      yield* Effect.all(
        Array.from({ length: 5 }, () => store.removed(one, [sandbox.name], at(1_009), "it was deleted")),
        { concurrency: "unbounded" }
      )
      yield* store.removed(two, [other.name], at(1_009), "not theirs")
      yield* sees("running", "too late")
      const told = (yield* (yield* EventStore).read(one, null, 100)).map(({ event }) => event)
      const eventOf = (
        type: SandboxEventType,
        reason: string | null,
        at: DateTime.Utc,
        { name }: AccountSandbox = sandbox
      ) => new SandboxEvent({ account: one.account, type, sandbox: name, session: null, reason, at })
      const [, , running, stopped] = told
      assert.deepStrictEqual(told, [
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

  "of changes of many sandboxes at once each is told": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const rows = Array.from({ length: 20 }, () => sandboxOf(scope))
      for (const row of rows) yield* store.add(scope, row, many)
      const seen = rows.map(({ name }) => ({ name, status: "running", expiresAt: at(99), reason: null }) as const)
      // In both orders, so that two of them want each other's rows.
      const sights = [0, 1, 2, 3].map((i) => store.see(scope, i % 2 === 0 ? seen : seen.toReversed()))
      const removals = [seen, seen.toReversed()].map((all) =>
        store.removed(
          scope,
          all.map(({ name }) => name),
          at(5),
          "it was deleted"
        )
      )
      yield* Effect.all([...sights, ...removals], { concurrency: "unbounded" })
      const told = (yield* (yield* EventStore).read(scope, null, 100)).map(({ event }) => event)
      for (const { name } of rows) {
        const [first, second, third, ...rest] = told.filter(({ sandbox }) => sandbox === name).map(({ type }) => type)
        assert.strictEqual(first, "sandbox.pending")
        if (second === "sandbox.running") assert.deepStrictEqual([third, ...rest], ["sandbox.removed"])
        else assert.deepStrictEqual([second, third, ...rest], ["sandbox.removed", undefined])
      }
    }),

  "what lives is counted, of all accounts": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      // A time of its own, at which what other promises made with an end is over.
      const now = at(4_000_000_000_000)
      const before = yield* store.countLive(now)
      const [later, earlier] = [at(4_000_000_000_001), at(3_999_999_999_999)]
      for (const [status, expiresAt, removedAt] of [
        ["running", later, null],
        ["running", earlier, null],
        ["pending", null, null],
        ["stopped", later, null],
        ["failed", null, null]
      ] as const) {
        const scope = yield* given.scope
        yield* store.add(scope, sandboxOf(scope, { status, expiresAt, removedAt }), many)
      }
      assert.strictEqual(yield* store.countLive(now), before + 2)
    }),

  "totals are told of all accounts, the newest sandbox first, in pages that lose and repeat none": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const proof = yield* given.platformAdmin
      // Long after what other promises write, so that theirs come later.
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
      yield* store.removed(people[1]!, [(yield* store.list(people[1]!, everything)).rows[0]!.name], at(1), "it's old")
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

export const contract = <E>(subject: string, layer: Layer.Layer<AccountStore | EventStore | IdentityStore, E>) =>
  holds("AccountStore", subject, layer, promises)
