import { AccountSandbox } from "@castellan/domain/account/AccountSandbox.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { sandboxOf, many, everything } from "./fixtures.ts"

export const rows: Clauses<AccountStore | EventStore | IdentityStore> = {
  "a row is found as it was added": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const sandbox = sandboxOf(scope, { status: "failed", reason: "därüm", expiresAt: at(1_700_000_999_456) })
      assert.deepStrictEqual(yield* store.add(scope, sandbox, many), Option.some(sandbox))
      assert.deepStrictEqual(yield* store.get(scope, sandbox.name), Option.some(sandbox))
      assert.isTrue(Option.isNone(yield* store.get(scope, SandboxName.make("sbx_none"))))
    }),

  "adding a name twice returns the existing row": () =>
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

  "a name that belongs to another account is refused and unchanged": () =>
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

  "a row is added for the scope's account even if it names another": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const sandbox = sandboxOf(two)
      yield* store.add(one, sandbox, many)
      assert.isTrue(Option.isSome(yield* store.get(one, sandbox.name)))
      assert.isTrue(Option.isNone(yield* store.get(two, sandbox.name)))
    }),

  "rows are listed newest first, in pages that have every row once": () =>
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

  "a cursor later than every row returns the first page": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      yield* store.add(scope, sandboxOf(scope), many)
      const beginning = yield* store.list(scope, everything)
      const cursor = Cursor.make("999999999999999_x")
      assert.deepStrictEqual(yield* store.list(scope, { limit: 100, cursor }), beginning)
    }),

  "a text with a NUL character can be written": () =>
    Effect.gen(function* () {
      const store = yield* AccountStore
      const scope = yield* given.scope
      const sandbox = sandboxOf(scope, { reason: "a\0b" })
      const reason = Effect.map(store.get(scope, sandbox.name), (found) =>
        Option.getOrThrow(found).reason?.replaceAll("\0", "\uFFFD")
      )
      yield* store.add(scope, sandbox, many)
      assert.strictEqual(yield* reason, "a\uFFFDb")
      yield* store.recordObserved(scope, [{ name: sandbox.name, status: "failed", expiresAt: null, reason: "\0c" }])
      assert.strictEqual(yield* reason, "\uFFFDc")
    })
}
