import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { SnapshotRecord } from "@castellan/domain/account/SnapshotRecord.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { newId, newSource, snapshotChange, snapshotOf } from "./fixtures.ts"

export const snapshots: Clauses<EnvironmentStore | IdentityStore> = {
  "reserving a key twice returns the existing snapshot": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const scope = yield* given.scope
      const wanted = snapshotOf(scope, { purpose: "setup" })
      assert.deepStrictEqual(yield* store.reserveSnapshot(scope, wanted), Option.some(wanted))
      const again = new SnapshotRecord({ ...wanted, source: newSource(), purpose: "fork", expiresAt: at(5) })
      assert.deepStrictEqual(yield* store.reserveSnapshot(scope, again), Option.some(wanted))
      const id = newId()
      yield* store.completeSnapshot(scope, wanted.key, id)
      const taken = new SnapshotRecord({ ...wanted, id })
      assert.deepStrictEqual(yield* store.reserveSnapshot(scope, wanted), Option.some(taken))
      assert.deepStrictEqual(yield* store.listSnapshots(scope, null), [taken])
    }),

  "a snapshot is reserved for the scope's account and without an id, even if it names others": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const said = snapshotOf(two, { id: newId() })
      const written = new SnapshotRecord({ ...said, account: one.account, id: null })
      assert.deepStrictEqual(yield* store.reserveSnapshot(one, said), Option.some(written))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [written])
      assert.deepStrictEqual(yield* store.listSnapshots(two, null), [])
    }),

  "a key that belongs to another account is refused and unchanged": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const wanted = snapshotOf(one)
      yield* store.reserveSnapshot(one, wanted)
      assert.isTrue(Option.isNone(yield* store.reserveSnapshot(two, snapshotOf(two, { key: wanted.key }))))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [wanted])
      assert.deepStrictEqual(yield* store.listSnapshots(two, null), [])
    }),

  "another snapshot of a source is refused until the previous one is taken or dropped": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const source = newSource()
      const [first, second, third] = [1, 2, 3].map((time) => snapshotOf(one, { source, startedAt: at(time) }))
      const isWanted = (snapshot?: SnapshotRecord) =>
        Effect.map(store.reserveSnapshot(AccountScope.ofOwner(snapshot!), snapshot!), Option.isSome)
      assert.isTrue(yield* isWanted(first))
      assert.isFalse(yield* isWanted(second))
      assert.isTrue(yield* isWanted(snapshotOf(one)))
      assert.isTrue(yield* isWanted(snapshotOf(two, { source })))
      yield* store.completeSnapshot(one, first!.key, newId())
      assert.isTrue(yield* isWanted(second))
      assert.isFalse(yield* isWanted(third))
      yield* store.deleteSnapshot(one, second!.key)
      assert.isTrue(yield* isWanted(third))
      const known = yield* store.listSnapshots(one, source)
      assert.deepStrictEqual(
        known.map(({ key }) => key),
        [first!.key, third!.key]
      )
    }),

  "one of several concurrent reservations of a source succeeds": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      for (let round = 0; round < 5; round++) {
        const scope = yield* given.scope
        const source = newSource()
        const wants = Array.from({ length: 8 }, () => store.reserveSnapshot(scope, snapshotOf(scope, { source })))
        const got = (yield* atOnce(wants)).filter(Option.isSome)
        assert.deepStrictEqual(
          got.map(({ value }) => value),
          yield* store.listSnapshots(scope, source)
        )
        assert.lengthOf(got, 1)
        const key = snapshotOf(scope).key
        const same = yield* atOnce(
          Array.from({ length: 8 }, () => store.reserveSnapshot(scope, snapshotOf(scope, { key })))
        )
        const existing = same[0]!
        assert.isTrue(Option.isSome(existing))
        for (const one of same) assert.deepStrictEqual(one, existing)
      }
    }),

  "the id of a taken snapshot is recorded while it is reserved, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const wanted = snapshotOf(one)
      const [id, other] = [newId(), newId()]
      assert.isFalse(yield* store.completeSnapshot(one, wanted.key, id))
      yield* store.reserveSnapshot(one, wanted)
      assert.isFalse(yield* store.completeSnapshot(two, wanted.key, other))
      assert.isTrue(yield* store.completeSnapshot(one, wanted.key, id))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [new SnapshotRecord({ ...wanted, id })])
      yield* store.deleteSnapshot(one, wanted.key)
      assert.isFalse(yield* store.completeSnapshot(one, wanted.key, id))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [])
    }),

  "recording the same id again succeeds, and recording another id is refused": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const scope = yield* given.scope
      const wanted = snapshotOf(scope)
      yield* store.reserveSnapshot(scope, wanted)
      const ids = Array.from({ length: 8 }, newId)
      const written = yield* atOnce(ids.map((id) => store.completeSnapshot(scope, wanted.key, id)))
      const [first, ...others] = ids.filter((_, i) => written[i])
      assert.deepStrictEqual(others, [])
      assert.isTrue(yield* store.completeSnapshot(scope, wanted.key, first!))
      assert.isFalse(yield* store.completeSnapshot(scope, wanted.key, newId()))
      assert.deepStrictEqual(yield* store.listSnapshots(scope, null), [new SnapshotRecord({ ...wanted, id: first! })])
    }),

  "a taken snapshot is found by its id, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [wanted, other] = [snapshotOf(one), snapshotOf(one)]
      const id = newId()
      yield* store.reserveSnapshot(one, other)
      yield* store.reserveSnapshot(one, wanted)
      assert.isTrue(Option.isNone(yield* store.findSnapshot(one, id)))
      yield* store.completeSnapshot(one, wanted.key, id)
      yield* store.completeSnapshot(one, other.key, newId())
      assert.deepStrictEqual(yield* store.findSnapshot(one, id), Option.some(new SnapshotRecord({ ...wanted, id })))
      assert.isTrue(Option.isNone(yield* store.findSnapshot(two, id)))
    }),

  "only the account's own snapshots are listed, oldest first, of one source if it is named": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const source = newSource()
      const rows = [
        snapshotOf(one, { startedAt: at(1), source, expiresAt: at(9) }),
        snapshotOf(one, { startedAt: at(2) }),
        snapshotOf(one, { startedAt: at(3), source, expiresAt: at(8) })
      ]
      yield* store.reserveSnapshot(two, snapshotOf(two, { source }))
      yield* store.reserveSnapshot(one, rows[2]!)
      const id = newId()
      yield* store.completeSnapshot(one, rows[2]!.key, id)
      for (const row of rows.slice(0, 2)) yield* store.reserveSnapshot(one, row)
      const last = new SnapshotRecord({ ...rows[2]!, id })
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [rows[0]!, rows[1]!, last])
      assert.deepStrictEqual(yield* store.listSnapshots(one, source), [rows[0]!, last])
      assert.deepStrictEqual(yield* store.listSnapshots(one, newSource()), [])
    }),

  "a snapshot is dropped by its account only, and dropping it again is harmless": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second] = [snapshotOf(one), snapshotOf(one)]
      for (const snapshot of [first, second]) yield* store.reserveSnapshot(one, snapshot)
      yield* store.deleteSnapshot(two, first.key)
      assert.lengthOf(yield* store.listSnapshots(one, null), 2)
      yield* store.deleteSnapshot(one, first.key)
      yield* store.deleteSnapshot(one, first.key)
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [second])
    }),

  "listUnneeded returns expired snapshots, those not taken in time, and temporary ones without an environment": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two, three] = [yield* given.scope, yield* given.scope, yield* given.scope]
      // Earlier than the rows of all other clauses, so that those do not count.
      const [now, before] = [-10_000, -20_000]
      const good = { expiresAt: at(now) }
      const keep = Effect.fnUntraced(function* (
        scope: AccountScope,
        isTaken: boolean,
        startedAt: number,
        more: Partial<SnapshotRecord>
      ) {
        const wanted = snapshotOf(scope, { ...good, startedAt: at(startedAt), ...more })
        yield* store.reserveSnapshot(scope, wanted)
        if (!isTaken) return wanted
        const id = newId()
        yield* store.completeSnapshot(scope, wanted.key, id)
        return new SnapshotRecord({ ...wanted, id })
      })
      const forked = yield* keep(one, true, before - 1, { purpose: "fork" })
      const expired = yield* keep(one, true, before + 5, { expiresAt: at(now - 1) })
      const setup = yield* keep(one, true, before - 4, { purpose: "setup" })
      const untaken = yield* keep(two, false, before - 3, {})
      const several = yield* keep(two, false, before - 2, { purpose: "fork", expiresAt: at(now - 1) })
      const saved = yield* keep(one, true, before - 9, { purpose: "setup" })
      const shared = yield* keep(one, true, before - 8, { purpose: "fork" })
      yield* keep(one, true, before - 9, {})
      for (const purpose of ["manual", "setup", "fork"] as const) yield* keep(one, false, before, { purpose })
      for (const purpose of ["setup", "fork"] as const) yield* keep(two, true, before, { purpose })
      const save = (scope: AccountScope, { id }: SnapshotRecord) =>
        store.save(scope, { snapshot: { id: id!, expiresAt: at(now) } }, at(0))
      yield* save(one, saved)
      yield* save(two, shared)
      yield* save(three, shared)

      const all = [setup, untaken, several, forked, expired]
      assert.deepStrictEqual(yield* store.listUnneeded(at(now), at(before), 100), all)
      assert.deepStrictEqual(yield* store.listUnneeded(at(now), at(before), 2), all.slice(0, 2))
      yield* store.forget(three, shared.id!)
      assert.deepStrictEqual(yield* store.listUnneeded(at(now), at(before), 100), all)
      yield* store.save(one, snapshotChange(), at(0))
      assert.deepStrictEqual(yield* store.listUnneeded(at(now), at(before), 1), [saved])
      yield* store.remove(two)
      assert.deepStrictEqual(yield* store.listUnneeded(at(now), at(before), 100), [saved, shared, ...all])
    })
}
