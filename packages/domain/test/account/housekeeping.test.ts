import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { Environments } from "@castellan/domain/account/Environments.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { SandboxOperations } from "../../src/account/SandboxOperations.ts"
import { Snapshots } from "@castellan/domain/account/Snapshots.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Option } from "effect"
import { TestClock } from "effect/testing"
import { useCases } from "./useCases.ts"

const quiet = Logger.layer([])
const world = (more: { readonly liveAtMost?: number } = {}) =>
  Layer.fresh(useCases(more).pipe(Layer.provideMerge(World.layer), Layer.provide(quiet)))

/** A provider that fails one operation on one sandbox or snapshot. */
const unable = (member: "remove" | "removeSnapshot", what: string) =>
  Layer.effect(
    SandboxProvider,
    Effect.map(SandboxProvider, (real) => ({
      ...real,
      [member]: (name: never) =>
        name === what
          ? Effect.fail(new SandboxUnavailable({ operation: member, retryable: true }))
          : (real[member] as (name: never) => Effect.Effect<void, SandboxUnavailable>)(name)
    }))
  )

const create = (scope: AccountScope) =>
  Effect.flatMap(AccountSandboxes, (sandboxes) =>
    Effect.map(sandboxes.create(scope, { work: Option.none(), nonce: Option.none() }), ({ sandbox }) => sandbox.name)
  )

const everything = { limit: 100, cursor: null }
const week = Duration.days(7)

describe("Housekeeping of stopped sandboxes", () => {
  it.effect("deletes the files of a sandbox after its retention, and keeps it in the list", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const name = yield* create(scope)
      const sandboxes = yield* AccountSandboxes
      yield* TestClock.adjust("30 minutes")
      yield* TestClock.adjust(week)
      assert.strictEqual(yield* sandboxes.tidy, 0)
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [name])
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* sandboxes.tidy, 1)
      assert.strictEqual(yield* sandboxes.tidy, 0)
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [])
      const [row] = (yield* sandboxes.list(scope, everything)).rows
      assert.strictEqual(row?.status, "stopped")
      assert.strictEqual(row?.reason, "Its files were removed some time after it stopped")
      assert.isNotNull(row?.removedAt)
    }).pipe(Effect.provide(world()))
  )

  it.effect("skips a sandbox that runs because it was extended since it was last observed", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const name = yield* create(scope)
      const provider = yield* SandboxProvider
      yield* provider.extend(name, Duration.days(30))
      yield* TestClock.adjust(Duration.days(8))
      const sandboxes = yield* AccountSandboxes
      yield* sandboxes.tidy
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [name])
      assert.strictEqual(yield* sandboxes.tidy, 0)
      const row = Option.getOrThrow(yield* sandboxes.find(scope, name))
      assert.deepStrictEqual([row.status, row.removedAt], ["running", null])
    }).pipe(Effect.provide(world()))
  )

  it.effect("deletes further sandboxes if one can't be deleted", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const stuck = yield* create(scope)
      yield* TestClock.adjust("1 second")
      for (let n = 0; n < 3; n++) yield* create(scope)
      yield* TestClock.adjust(Duration.days(8))
      const tidy = Effect.flatMap(AccountSandboxes, (sandboxes) => sandboxes.tidy)
      const broken = Layer.fresh(useCases().pipe(Layer.provide(unable("remove", stuck)), Layer.provide(quiet)))
      assert.strictEqual(yield* Effect.provide(tidy, broken), 3)
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [stuck])
      assert.strictEqual(yield* tidy, 1)
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [])
    }).pipe(Effect.provide(world()))
  )
})

describe("An account at its limit of live sandboxes", () => {
  it.effect("can create one for each that stopped unobserved, and none while all run", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const first = yield* create(scope)
      yield* create(scope)
      assert.strictEqual((yield* Effect.flip(create(scope)))._tag, "SandboxQuotaReached")
      yield* (yield* SandboxProvider).stop(first)
      yield* create(scope)
      assert.strictEqual((yield* Effect.flip(create(scope)))._tag, "SandboxQuotaReached")
    }).pipe(Effect.provide(world({ liveAtMost: 2 })))
  )

  it.effect("can create one although it has more stopped sandboxes than are checked", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const provider = yield* SandboxProvider
      const sandboxes = yield* AccountSandboxes
      for (let n = 0; n < 1010; n++) {
        yield* provider.stop(yield* create(scope))
        yield* sandboxes.list(scope, { limit: 1, cursor: null })
        yield* TestClock.adjust(1)
      }
      const live = yield* create(scope)
      assert.strictEqual((yield* Effect.flip(create(scope)))._tag, "SandboxQuotaReached")
      yield* provider.stop(live)
      yield* create(scope)
    }).pipe(Effect.provide(world({ liveAtMost: 1 })))
  )

  it.effect("leaves no row when it is refused, and can create one after a deletion", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const first = yield* create(scope)
      yield* Effect.flip(create(scope))
      assert.strictEqual((yield* (yield* AccountStore).list(scope, everything)).rows.length, 1)
      yield* (yield* SandboxOperations).remove(scope, first)
      yield* create(scope)
    }).pipe(Effect.provide(world({ liveAtMost: 1 })))
  )

  it.effect("does not affect other accounts", () =>
    Effect.gen(function* () {
      yield* create(yield* given.scope)
      yield* create(yield* given.scope)
    }).pipe(Effect.provide(world({ liveAtMost: 1 })))
  )
})

describe("Housekeeping of snapshots", () => {
  const snapshotOf = (scope: AccountScope, keptFor: Duration.Duration) =>
    Effect.gen(function* () {
      const name = yield* create(scope)
      return yield* (yield* SandboxOperations).snapshot(scope, name, { keptFor, nonce: Option.none() })
    })

  it.effect("removes a snapshot when it has expired, and not before", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const brief = yield* snapshotOf(scope, Duration.hours(1))
      const long = yield* snapshotOf(scope, Duration.hours(2))
      const snapshots = yield* Snapshots
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* snapshots.collect, 0)
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* snapshots.collect, 1)
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [long.id])
      assert.isTrue(Option.isNone(yield* (yield* EnvironmentStore).findSnapshot(scope, brief.id)))
    }).pipe(Effect.provide(world()))
  )

  it.effect("clears a saved snapshot that expires, and the next sandbox boots without it", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const { id } = yield* snapshotOf(scope, Duration.hours(1))
      const environments = yield* EnvironmentStore
      const expiresAt = Option.getOrThrow(yield* environments.findSnapshot(scope, id)).expiresAt
      yield* environments.save(scope, { snapshot: { id, expiresAt } }, expiresAt)
      yield* TestClock.adjust("61 minutes")
      assert.strictEqual(yield* (yield* Snapshots).collect, 1)
      const { environment } = yield* (yield* Environments).view(scope)
      assert.isNull(Option.getOrThrow(environment).snapshot)
      yield* create(scope)
    }).pipe(Effect.provide(world()))
  )

  it.effect("clears a snapshot that the provider lost once a sandbox was created without it, and not before", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const { id } = yield* snapshotOf(scope, Duration.hours(1))
      const environments = yield* EnvironmentStore
      const { expiresAt } = Option.getOrThrow(yield* environments.findSnapshot(scope, id))
      yield* environments.save(scope, { snapshot: { id, expiresAt } }, expiresAt)
      const saved = Effect.map(environments.get(scope), (one) => Option.getOrThrow(one).snapshot)
      const real = yield* SandboxProvider
      yield* real.removeSnapshot(id)
      const full = new SandboxUnavailable({ operation: "create", retryable: true })
      const nothing = Layer.succeed(SandboxProvider, {
        ...real,
        create: (spec) => (Option.isSome(spec.from) ? real.create(spec) : Effect.fail(full))
      })
      const broken = Layer.fresh(useCases().pipe(Layer.provide(nothing), Layer.provide(quiet)))
      assert.strictEqual((yield* Effect.flip(create(scope).pipe(Effect.provide(broken))))._tag, "SandboxNotCreated")
      assert.strictEqual(yield* saved, id)
      yield* create(scope)
      assert.isNull(yield* saved)
    }).pipe(Effect.provide(world()))
  )

  it.effect("removes further snapshots if one can't be removed", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const stuck = yield* snapshotOf(scope, Duration.hours(1))
      yield* TestClock.adjust("1 second")
      for (let n = 0; n < 3; n++) yield* snapshotOf(scope, Duration.hours(1))
      yield* TestClock.adjust("2 hours")
      const collect = Effect.flatMap(Snapshots, (snapshots) => snapshots.collect)
      const broken = Layer.fresh(
        useCases().pipe(Layer.provide(unable("removeSnapshot", stuck.id)), Layer.provide(quiet))
      )
      assert.strictEqual(yield* Effect.provide(collect, broken), 3)
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [stuck.id])
      // Its row still has it.
      assert.strictEqual(yield* collect, 1)
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [])
    }).pipe(Effect.provide(world()))
  )
})
