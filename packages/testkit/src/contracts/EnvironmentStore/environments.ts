import { Environment } from "@castellan/domain/account/Environment.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { SnapshotRecord } from "@castellan/domain/account/SnapshotRecord.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { assertUnchanged } from "../assertUnchanged.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { newId, snapshotChange, snapshotOf } from "./fixtures.ts"

const newRun = (scope: AccountScope) => given.run(scope).id

const nothing = { snapshot: null, expiresAt: null, repo: null, granted: false, setup: null }

const environmentOf = (scope: AccountScope, createdAt: number, more: Partial<Environment> = {}) =>
  new Environment({ account: scope.account, ...nothing, createdAt: at(createdAt), ...more })

export const environments: Clauses<EnvironmentStore | IdentityStore> = {
  "an environment is found as it was saved, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      assert.isTrue(Option.isNone(yield* store.get(one)))
      const { snapshot } = snapshotChange()
      const saved = yield* store.save(one, { snapshot, repo: { url: "https://h/ö/r", granted: true } }, at(1_123))
      const { expiresAt, id } = snapshot
      const wanted = environmentOf(one, 1_123, { snapshot: id, expiresAt, repo: "https://h/ö/r", granted: true })
      assert.deepStrictEqual(saved, wanted)
      assert.deepStrictEqual(yield* store.get(one), Option.some(wanted))
      assert.isTrue(Option.isNone(yield* store.get(two)))
    }),

  "saving changes the named fields only": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const scope = yield* given.scope
      assert.deepStrictEqual(yield* store.save(scope, {}, at(5)), environmentOf(scope, 5))
      const repo = { repo: "https://h/o/r", granted: true }
      const withRepo = yield* store.save(scope, { repo: { url: repo.repo, granted: true } }, at(6))
      assert.deepStrictEqual(withRepo, environmentOf(scope, 5, repo))
      const setup = yield* store.claimSetup(scope, newRun(scope), null, at(7))
      const { snapshot } = snapshotChange()
      const both = { ...repo, setup, snapshot: snapshot.id, expiresAt: snapshot.expiresAt }
      assert.deepStrictEqual(yield* store.save(scope, { snapshot }, at(8)), environmentOf(scope, 5, both))
      const other = yield* store.save(scope, { repo: { url: "https://h/o/s", granted: false } }, at(9))
      assert.deepStrictEqual(other, environmentOf(scope, 5, { ...both, repo: "https://h/o/s", granted: false }))
      assert.deepStrictEqual(yield* store.save(scope, {}, at(10)), other)
      assert.deepStrictEqual(yield* store.get(scope), Option.some(other))
    }),

  "forget clears the saved snapshot only if it is the named one": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const { snapshot } = snapshotChange()
      const saved = yield* store.save(one, { snapshot, repo: { url: "https://h/o/r", granted: true } }, at(5))
      yield* store.forget(one, newId())
      yield* store.forget(two, snapshot.id)
      assert.deepStrictEqual(yield* store.get(one), Option.some(saved))
      assert.isTrue(Option.isNone(yield* store.get(two)))
      yield* store.forget(one, snapshot.id)
      const without = new Environment({ ...saved, snapshot: null, expiresAt: null })
      assert.deepStrictEqual(yield* store.get(one), Option.some(without))
    }),

  "a setup is claimed if there is none or the expected one is current, and the current one is returned": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second, third] = [newRun(one), newRun(one), newRun(one)]
      assert.strictEqual(yield* store.claimSetup(one, first, null, at(5)), first)
      assert.deepStrictEqual(yield* store.get(one), Option.some(environmentOf(one, 5, { setup: first })))
      assert.strictEqual(yield* store.claimSetup(one, second, null, at(6)), first)
      assert.strictEqual(yield* store.claimSetup(one, second, third, at(6)), first)
      assert.strictEqual(yield* store.claimSetup(one, second, first, at(6)), second)
      assert.strictEqual(yield* store.claimSetup(one, third, first, at(7)), second)
      const { snapshot } = snapshotChange()
      const saved = yield* store.save(one, { snapshot, repo: { url: "https://h/o/r", granted: true } }, at(8))
      assert.strictEqual(yield* store.claimSetup(one, third, second, at(9)), third)
      assert.deepStrictEqual(yield* store.get(one), Option.some(new Environment({ ...saved, setup: third })))
      yield* store.save(two, {}, at(5))
      assert.strictEqual(yield* store.claimSetup(two, second, null, at(6)), second)
    }),

  "concurrent claims of a setup all return the same run": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      for (let round = 0; round < 5; round++) {
        const scope = yield* given.scope
        const claim = (instead: Parameters<typeof store.claimSetup>[2]) =>
          atOnce(Array.from({ length: 8 }, () => store.claimSetup(scope, newRun(scope), instead, at(5))))
        const [first, ...others] = new Set(yield* claim(null))
        assert.deepStrictEqual(others, [])
        const [second, ...rest] = new Set(yield* claim(first!))
        assert.deepStrictEqual(rest, [])
        assert.notStrictEqual(second, first)
        assert.strictEqual(Option.getOrThrow(yield* store.get(scope)).setup, second)
      }
    }),

  "a setup's results are saved only while it is the account's current setup": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second] = [newRun(one), newRun(one)]
      const { snapshot } = snapshotChange()
      assert.isTrue(Option.isNone(yield* store.saveSetup(one, first, { snapshot })))
      assert.isTrue(Option.isNone(yield* store.get(one)))
      yield* store.claimSetup(one, first, null, at(5))
      const repo = { url: "https://h/o/r", granted: true }
      const withRepo = environmentOf(one, 5, { setup: first, repo: repo.url, granted: true })
      assert.deepStrictEqual(yield* store.saveSetup(one, first, { repo }), Option.some(withRepo))
      assert.deepStrictEqual(yield* store.saveSetup(one, first, {}), Option.some(withRepo))
      const { expiresAt, id } = snapshot
      const saved = new Environment({ ...withRepo, snapshot: id, expiresAt })
      assert.deepStrictEqual(yield* store.saveSetup(one, first, { snapshot }), Option.some(saved))
      assert.isTrue(Option.isNone(yield* store.saveSetup(two, first, { snapshot })))
      yield* store.claimSetup(one, second, first, at(6))
      assert.isTrue(Option.isNone(yield* store.saveSetup(one, first, snapshotChange())))
      assert.deepStrictEqual(yield* store.get(one), Option.some(new Environment({ ...saved, setup: second })))
    }),

  "remove deletes the environment and returns it once, and keeps the snapshots": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      yield* store.claimSetup(one, newRun(one), null, at(5))
      const saved = yield* store.save(one, snapshotChange(), at(6))
      const other = yield* store.save(two, snapshotChange(), at(6))
      const kept = snapshotOf(one)
      yield* store.reserveSnapshot(one, kept)
      assert.deepStrictEqual(yield* store.remove(one), Option.some(saved))
      assert.isTrue(Option.isNone(yield* store.get(one)))
      assert.isTrue(Option.isNone(yield* store.remove(one)))
      assert.deepStrictEqual(yield* store.get(two), Option.some(other))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [kept])
      assert.deepStrictEqual(yield* store.save(one, {}, at(7)), environmentOf(one, 7))
    }),

  "a write does not change any other environment or snapshot": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      // Another account's environment with the same setup and snapshot, and snapshots of the same source.
      const [run, { snapshot }] = [newRun(one), snapshotChange()]
      yield* store.claimSetup(two, run, null, at(5))
      yield* store.save(two, { snapshot }, at(5))
      const wanted = snapshotOf(one)
      const [taken, untaken, foreign] = [snapshotOf(one), snapshotOf(one), snapshotOf(two, { source: wanted.source })]
      yield* store.reserveSnapshot(one, taken)
      yield* store.completeSnapshot(one, taken.key, newId())
      for (const row of [untaken, foreign]) yield* store.reserveSnapshot(AccountScope.ofOwner(row), row)
      const snapshots = (scope: AccountScope, others: ReadonlyArray<SnapshotRecord>) =>
        Effect.map(store.listSnapshots(scope, null), (all) =>
          all.filter(({ key }) => others.some((other) => other.key === key))
        )
      const rows = {
        "another account's environment": store.get(two),
        "other snapshots of the account": snapshots(one, [taken, untaken]),
        "another account's snapshots": snapshots(two, [foreign])
      }
      yield* assertUnchanged(rows, {
        save: store.save(one, { snapshot }, at(6)),
        claimSetup: store.claimSetup(one, run, null, at(6)),
        saveSetup: store.saveSetup(one, run, { repo: { url: "https://h/o/r", granted: true } }),
        "claimSetup instead of another": store.claimSetup(one, newRun(one), run, at(6)),
        forget: store.forget(one, snapshot.id),
        want: store.reserveSnapshot(one, wanted),
        taken: store.completeSnapshot(one, wanted.key, newId()),
        drop: store.deleteSnapshot(one, wanted.key),
        remove: store.remove(one)
      })
    }),

  "a text with a NUL character can be written": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const scope = yield* given.scope
      const run = yield* store.claimSetup(scope, newRun(scope), null, at(5))
      const clean = ({ repo }: Environment) => repo?.replaceAll("\0", "\uFFFD")
      const repo = (url: string) => ({ repo: { url, granted: false } })
      assert.strictEqual(clean(yield* store.save(scope, repo("a\0b"), at(5))), "a\uFFFDb")
      assert.strictEqual(clean(Option.getOrThrow(yield* store.saveSetup(scope, run, repo("\0c")))), "\uFFFDc")
    })
}
