import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer, Option } from "effect"
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

export const promises: Promises<AccountStore | IdentityStore> = {
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

  "a cursor that no list gave is taken for the beginning": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      yield* store.add(scope, sandboxOf(scope), many)
      const beginning = yield* store.list(scope, everything)
      for (const cursor of ["nonsense", "_", "12345", "999999999999999_x"]) {
        assert.deepStrictEqual(yield* store.list(scope, { limit: 100, cursor: Cursor.make(cursor) }), beginning)
      }
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
      yield* store.see(one, [
        { name: first.name, ...running },
        { name: second.name, ...failed },
        { name: foreign.name, ...failed },
        { name: SandboxName.make("sbx_none"), ...failed }
      ])
      yield* store.see(one, [])
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
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<AccountStore | IdentityStore, E>) =>
  holds("AccountStore", subject, layer, promises)
