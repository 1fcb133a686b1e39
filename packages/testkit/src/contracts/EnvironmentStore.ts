import { Environment } from "@castellan/domain/account/Environment.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { KeptSnapshot, SnapshotKey } from "@castellan/domain/account/KeptSnapshot.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert } from "@effect/vitest"
import { DateTime, Effect, type Layer, Option } from "effect"
import { SecureRandom } from "effect/crypto"
import * as given from "../given.ts"
import { holds, type Promises } from "./holds.ts"
import { assertUntouched } from "./untouched.ts"

const at = (millis: number) => DateTime.makeUnsafe(millis)
const unique = () => SecureRandom.uuidV4Unsafe().replaceAll("-", "")
const newRun = (scope: AccountScope) => given.run(scope).id
const newId = () => SnapshotId.make(unique())
const newSource = () => SandboxName.make(`sbx_${unique()}`)
const snapshotChange = (millis = 9000) => ({ snapshot: { id: newId(), expiresAt: at(millis) } })

const nothing = { snapshot: null, expiresAt: null, repo: null, granted: false, setup: null }
const environmentOf = (scope: AccountScope, createdAt: number, more: Partial<Environment> = {}) =>
  new Environment({ account: scope.account, ...nothing, createdAt: at(createdAt), ...more })

const snapshotOf = (scope: AccountScope, more: Partial<KeptSnapshot> = {}) =>
  new KeptSnapshot({
    key: SnapshotKey.make(`snp_${unique()}`),
    account: scope.account,
    source: newSource(),
    id: null,
    purpose: "manual",
    startedAt: at(1_700_000_000_123),
    expiresAt: at(1_800_000_000_456),
    ...more
  })

const atOnce = <A, E, R>(effects: ReadonlyArray<Effect.Effect<A, E, R>>) =>
  Effect.all(effects, { concurrency: "unbounded" })

export const promises: Promises<EnvironmentStore | IdentityStore> = {
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

  "saving changes what is named and leaves the rest": () =>
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

  "the saved snapshot is forgotten if it is the one that is named": () =>
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

  "a setup is claimed where there was none or the named one was it, and the one that stands is given": () =>
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

  "of many that claim a setup at once all get the same": () =>
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

  "what a setup made is saved only while it is the account's setup": () =>
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

  "an environment is removed with all that was saved, and given once; snapshots stay": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      yield* store.claimSetup(one, newRun(one), null, at(5))
      const saved = yield* store.save(one, snapshotChange(), at(6))
      const other = yield* store.save(two, snapshotChange(), at(6))
      const kept = snapshotOf(one)
      yield* store.want(one, kept)
      assert.deepStrictEqual(yield* store.remove(one), Option.some(saved))
      assert.isTrue(Option.isNone(yield* store.get(one)))
      assert.isTrue(Option.isNone(yield* store.remove(one)))
      assert.deepStrictEqual(yield* store.get(two), Option.some(other))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [kept])
      assert.deepStrictEqual(yield* store.save(one, {}, at(7)), environmentOf(one, 7))
    }),

  "wanting a key twice gives the snapshot that stands": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const scope = yield* given.scope
      const wanted = snapshotOf(scope, { purpose: "setup" })
      assert.deepStrictEqual(yield* store.want(scope, wanted), Option.some(wanted))
      const again = new KeptSnapshot({ ...wanted, source: newSource(), purpose: "fork", expiresAt: at(5) })
      assert.deepStrictEqual(yield* store.want(scope, again), Option.some(wanted))
      const id = newId()
      yield* store.taken(scope, wanted.key, id)
      const taken = new KeptSnapshot({ ...wanted, id })
      assert.deepStrictEqual(yield* store.want(scope, wanted), Option.some(taken))
      assert.deepStrictEqual(yield* store.listSnapshots(scope, null), [taken])
    }),

  "a snapshot is wanted for the scope's account and not yet taken, whatever it says of itself": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const said = snapshotOf(two, { id: newId() })
      const written = new KeptSnapshot({ ...said, account: one.account, id: null })
      assert.deepStrictEqual(yield* store.want(one, said), Option.some(written))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [written])
      assert.deepStrictEqual(yield* store.listSnapshots(two, null), [])
    }),

  "a key of another account is not given, and stays": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const wanted = snapshotOf(one)
      yield* store.want(one, wanted)
      assert.isTrue(Option.isNone(yield* store.want(two, snapshotOf(two, { key: wanted.key }))))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [wanted])
      assert.deepStrictEqual(yield* store.listSnapshots(two, null), [])
    }),

  "another snapshot of a source is not wanted until the one before was taken or dropped": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const source = newSource()
      const [first, second, third] = [1, 2, 3].map((time) => snapshotOf(one, { source, startedAt: at(time) }))
      const isWanted = (snapshot?: KeptSnapshot) =>
        Effect.map(store.want(AccountScope.ofOwner(snapshot!), snapshot!), Option.isSome)
      assert.isTrue(yield* isWanted(first))
      assert.isFalse(yield* isWanted(second))
      assert.isTrue(yield* isWanted(snapshotOf(one)))
      assert.isTrue(yield* isWanted(snapshotOf(two, { source })))
      yield* store.taken(one, first!.key, newId())
      assert.isTrue(yield* isWanted(second))
      assert.isFalse(yield* isWanted(third))
      yield* store.drop(one, second!.key)
      assert.isTrue(yield* isWanted(third))
      const known = yield* store.listSnapshots(one, source)
      assert.deepStrictEqual(
        known.map(({ key }) => key),
        [first!.key, third!.key]
      )
    }),

  "of many that want a snapshot of a source at once one gets it": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      for (let round = 0; round < 5; round++) {
        const scope = yield* given.scope
        const source = newSource()
        const wants = Array.from({ length: 8 }, () => store.want(scope, snapshotOf(scope, { source })))
        const got = (yield* atOnce(wants)).filter(Option.isSome)
        assert.deepStrictEqual(
          got.map(({ value }) => value),
          yield* store.listSnapshots(scope, source)
        )
        assert.lengthOf(got, 1)
        const key = snapshotOf(scope).key
        const same = yield* atOnce(Array.from({ length: 8 }, () => store.want(scope, snapshotOf(scope, { key }))))
        const stands = same[0]!
        assert.isTrue(Option.isSome(stands))
        for (const one of same) assert.deepStrictEqual(one, stands)
      }
    }),

  "it is written which snapshot was taken, while it is wanted and by its account": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const wanted = snapshotOf(one)
      const [id, other] = [newId(), newId()]
      assert.isFalse(yield* store.taken(one, wanted.key, id))
      yield* store.want(one, wanted)
      assert.isFalse(yield* store.taken(two, wanted.key, other))
      assert.isTrue(yield* store.taken(one, wanted.key, id))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [new KeptSnapshot({ ...wanted, id })])
      yield* store.drop(one, wanted.key)
      assert.isFalse(yield* store.taken(one, wanted.key, id))
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [])
    }),

  "saying twice which snapshot was taken is fine, and another than the first is refused": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const scope = yield* given.scope
      const wanted = snapshotOf(scope)
      yield* store.want(scope, wanted)
      const ids = Array.from({ length: 8 }, newId)
      const written = yield* atOnce(ids.map((id) => store.taken(scope, wanted.key, id)))
      const [first, ...others] = ids.filter((_, i) => written[i])
      assert.deepStrictEqual(others, [])
      assert.isTrue(yield* store.taken(scope, wanted.key, first!))
      assert.isFalse(yield* store.taken(scope, wanted.key, newId()))
      assert.deepStrictEqual(yield* store.listSnapshots(scope, null), [new KeptSnapshot({ ...wanted, id: first! })])
    }),

  "a snapshot that was taken is found by its id, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [wanted, other] = [snapshotOf(one), snapshotOf(one)]
      const id = newId()
      yield* store.want(one, other)
      yield* store.want(one, wanted)
      assert.isTrue(Option.isNone(yield* store.findSnapshot(one, id)))
      yield* store.taken(one, wanted.key, id)
      yield* store.taken(one, other.key, newId())
      assert.deepStrictEqual(yield* store.findSnapshot(one, id), Option.some(new KeptSnapshot({ ...wanted, id })))
      assert.isTrue(Option.isNone(yield* store.findSnapshot(two, id)))
    }),

  "snapshots are listed oldest first, of one source if it is named, and nobody else's": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const source = newSource()
      const rows = [
        snapshotOf(one, { startedAt: at(1), source, expiresAt: at(9) }),
        snapshotOf(one, { startedAt: at(2) }),
        snapshotOf(one, { startedAt: at(3), source, expiresAt: at(8) })
      ]
      yield* store.want(two, snapshotOf(two, { source }))
      yield* store.want(one, rows[2]!)
      const id = newId()
      yield* store.taken(one, rows[2]!.key, id)
      for (const row of rows.slice(0, 2)) yield* store.want(one, row)
      const last = new KeptSnapshot({ ...rows[2]!, id })
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [rows[0]!, rows[1]!, last])
      assert.deepStrictEqual(yield* store.listSnapshots(one, source), [rows[0]!, last])
      assert.deepStrictEqual(yield* store.listSnapshots(one, newSource()), [])
    }),

  "a snapshot is dropped, twice if need be, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [first, second] = [snapshotOf(one), snapshotOf(one)]
      for (const snapshot of [first, second]) yield* store.want(one, snapshot)
      yield* store.drop(two, first.key)
      assert.lengthOf(yield* store.listSnapshots(one, null), 2)
      yield* store.drop(one, first.key)
      yield* store.drop(one, first.key)
      assert.deepStrictEqual(yield* store.listSnapshots(one, null), [second])
    }),

  "a write leaves every other environment and snapshot as it is": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      // Another account's environment with the same setup and the same snapshot, and snapshots of the same source.
      const [run, { snapshot }] = [newRun(one), snapshotChange()]
      yield* store.claimSetup(two, run, null, at(5))
      yield* store.save(two, { snapshot }, at(5))
      const wanted = snapshotOf(one)
      const [taken, untaken, foreign] = [snapshotOf(one), snapshotOf(one), snapshotOf(two, { source: wanted.source })]
      yield* store.want(one, taken)
      yield* store.taken(one, taken.key, newId())
      for (const row of [untaken, foreign]) yield* store.want(AccountScope.ofOwner(row), row)
      const snapshots = (scope: AccountScope, others: ReadonlyArray<KeptSnapshot>) =>
        Effect.map(store.listSnapshots(scope, null), (all) =>
          all.filter(({ key }) => others.some((other) => other.key === key))
        )
      const rows = {
        "another account's environment": store.get(two),
        "other snapshots of the account": snapshots(one, [taken, untaken]),
        "another account's snapshots": snapshots(two, [foreign])
      }
      yield* assertUntouched(rows, {
        save: store.save(one, { snapshot }, at(6)),
        claimSetup: store.claimSetup(one, run, null, at(6)),
        saveSetup: store.saveSetup(one, run, { repo: { url: "https://h/o/r", granted: true } }),
        "claimSetup instead of another": store.claimSetup(one, newRun(one), run, at(6)),
        forget: store.forget(one, snapshot.id),
        want: store.want(one, wanted),
        taken: store.taken(one, wanted.key, newId()),
        drop: store.drop(one, wanted.key),
        remove: store.remove(one)
      })
    }),

  "unneeded are what expired, what was not taken in time, and passing ones that no environment refers to": () =>
    Effect.gen(function* () {
      const store = yield* EnvironmentStore
      const [one, two, three] = [yield* given.scope, yield* given.scope, yield* given.scope]
      // Long before what other promises write, so that theirs don't count.
      const [now, before] = [-10_000, -20_000]
      const good = { expiresAt: at(now) }
      const keep = Effect.fnUntraced(function* (
        scope: AccountScope,
        isTaken: boolean,
        startedAt: number,
        more: Partial<KeptSnapshot>
      ) {
        const wanted = snapshotOf(scope, { ...good, startedAt: at(startedAt), ...more })
        yield* store.want(scope, wanted)
        if (!isTaken) return wanted
        const id = newId()
        yield* store.taken(scope, wanted.key, id)
        return new KeptSnapshot({ ...wanted, id })
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
      const save = (scope: AccountScope, { id }: KeptSnapshot) =>
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
    }),

  "a NUL in a text breaks nothing": () =>
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

export const contract = <E>(subject: string, layer: Layer.Layer<EnvironmentStore | IdentityStore, E>) =>
  holds("EnvironmentStore", subject, layer, promises)
