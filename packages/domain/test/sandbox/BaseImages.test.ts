import { ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImages, ImageNotBuilt } from "@castellan/domain/sandbox/BaseImages.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Logger, Option } from "effect"
import { TestClock } from "effect/testing"
import { layer as faultyProvider, Trouble, ProviderFaults } from "../session/ProviderFaults.ts"

const world = BaseImages.layer.pipe(
  Layer.provideMerge(World.crypto),
  Layer.provideMerge(faultyProvider),
  Layer.provideMerge(World.layer),
  Layer.provideMerge(Logger.layer([]))
)

const keyOf = ({ account }: AccountScope) => ImageKey.make(`${account}/somebody/work`)

const toBuild = <E>(scope: AccountScope, prepare: (builder: SandboxName) => Effect.Effect<void, E>) => ({
  key: keyOf(scope),
  account: scope.account,
  prepare,
  explain: () => "It was no use"
})

const build = <E = never>(
  scope: AccountScope,
  prepare: (builder: SandboxName) => Effect.Effect<void, E> = () => Effect.void
) => Effect.flatMap(BaseImages, (images) => images.build(toBuild(scope, prepare)))

const imageOf = (scope: AccountScope) =>
  Effect.flatMap(BaseImages, (images) => Effect.map(images.find(keyOf(scope)), Option.getOrThrow))

/** The sandboxes and snapshots at the provider. */
const left = Effect.map(MemorySandboxes, (sandboxes) => [sandboxes.names(), sandboxes.snapshots()])

const never = () => Effect.never

describe("A base image", () => {
  it.effect("is built once for concurrent callers, and leaves only a snapshot", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const builds = yield* Effect.forkChild(
        Effect.all(
          Array.from({ length: 5 }, () => build(scope, () => Effect.sleep("1 minute"))),
          { concurrency: "unbounded" }
        )
      )
      yield* TestClock.adjust("1 minute")
      const made = (yield* Fiber.join(builds)).flatMap(Option.toArray)
      assert.strictEqual(made.length, 1)
      assert.strictEqual((yield* imageOf(scope)).current, made[0])
      assert.deepStrictEqual(yield* left, [[], made])
      assert.deepStrictEqual(yield* build(scope), Option.none())
    }).pipe(Effect.provide(world))
  )

  it.effect("is built by one server that renews its lease until the end", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const building = yield* Effect.forkChild(build(scope, () => Effect.sleep("10 minutes")))
      for (let minute = 0; minute < 9; minute++) {
        yield* TestClock.adjust("1 minute")
        assert.deepStrictEqual(yield* build(scope), Option.none())
      }
      yield* TestClock.adjust("1 minute")
      assert.isTrue(Option.isSome(yield* Fiber.join(building)))
    }).pipe(Effect.provide(world))
  )

  it.effect("is built by another server 30 s after the last heartbeat, which removes what the first one left", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const builder = yield* Effect.forkChild(build(scope, never))
      yield* TestClock.adjust("10 seconds")
      yield* Fiber.interrupt(builder)
      assert.strictEqual((yield* MemorySandboxes).names().length, 1)
      yield* TestClock.adjust("25 seconds")
      assert.deepStrictEqual(yield* build(scope), Option.none())
      yield* TestClock.adjust("5 seconds")
      const made = yield* build(scope)
      assert.deepStrictEqual(yield* left, [[], Option.toArray(made)])
    }).pipe(Effect.provide(world))
  )

  it.effect("has the sandbox of a dead builder removed by housekeeping, too", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const images = yield* BaseImages
      const builder = yield* Effect.forkChild(build(scope, never))
      yield* TestClock.adjust("10 seconds")
      yield* (yield* SandboxProvider).snapshot((yield* imageOf(scope)).builder!)
      yield* images.collect
      assert.strictEqual((yield* MemorySandboxes).names().length, 1)
      yield* Fiber.interrupt(builder)
      yield* TestClock.adjust("3 minutes")
      assert.strictEqual(yield* images.collect, 1)
      assert.deepStrictEqual(yield* left, [[], []])
      assert.isNull((yield* imageOf(scope)).builder)
      assert.strictEqual(yield* images.collect, 0)
    }).pipe(Effect.provide(world))
  )

  it.effect("is used while the next one is built or after that failed, which is retried with growing delays", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const first = Option.getOrThrow(yield* build(scope))
      yield* TestClock.adjust("25 hours")
      const fails = build(scope, () => Effect.fail("no"))
      for (const [failed, minutes] of [1, 2, 4, 8].entries()) {
        const failure = yield* Effect.flip(fails)
        assert.deepStrictEqual(failure, new ImageNotBuilt({ reason: "It was no use" }))
        const { builder, current, error, failures } = yield* imageOf(scope)
        assert.deepStrictEqual([current, builder, failures, error], [first, null, failed + 1, "It was no use"])
        yield* TestClock.adjust(Duration.subtract(Duration.minutes(minutes), Duration.seconds(1)))
        assert.deepStrictEqual(yield* build(scope), Option.none())
        yield* TestClock.adjust("1 second")
      }
      assert.deepStrictEqual(yield* left, [[], [first]])
      const second = Option.getOrThrow(yield* build(scope))
      const { current, failures, replaced } = yield* imageOf(scope)
      assert.deepStrictEqual([current, failures, replaced], [second, 0, []])
      assert.deepStrictEqual(yield* left, [[], [second]])
    }).pipe(Effect.provide(world))
  )

  it.effect("keeps the name of a builder sandbox that can't be removed, until it can", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const images = yield* BaseImages
      const faults = yield* ProviderFaults
      faults.plan("remove", Trouble.Refused({ after: 0 }))
      yield* Effect.flip(build(scope, () => Effect.fail("no")))
      const { builder } = yield* imageOf(scope)
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [builder!])
      yield* TestClock.adjust("3 minutes")
      faults.plan("remove", Trouble.Refused({ after: 0 }))
      assert.strictEqual((yield* Effect.flip(build(scope)))._tag, "SandboxUnavailable")
      assert.strictEqual((yield* imageOf(scope)).builder, builder)
      yield* images.collect
      assert.deepStrictEqual(yield* left, [[], []])
      assert.isTrue(Option.isSome(yield* build(scope)))
    }).pipe(Effect.provide(world))
  )

  it.effect("is discarded without leftovers if another server took over its build", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const store = yield* BaseImageStore
      const deaf = Layer.succeed(BaseImageStore, { ...store, renewLease: () => Effect.succeed(true) })
      const late = yield* build(scope, () => Effect.sleep("5 minutes")).pipe(
        Effect.provide(Layer.fresh(BaseImages.layer).pipe(Layer.provide(deaf))),
        Effect.exit,
        Effect.forkChild
      )
      yield* TestClock.adjust("3 minutes")
      const made = yield* build(scope)
      yield* TestClock.adjust("3 minutes")
      yield* Fiber.join(late)
      assert.strictEqual((yield* imageOf(scope)).current, Option.getOrThrow(made))
      assert.deepStrictEqual(yield* left, [[], Option.toArray(made)])
    }).pipe(Effect.provide(world))
  )

  it.effect("is removed when it is unused for two weeks, and built again on request", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const images = yield* BaseImages
      yield* build(scope)
      yield* TestClock.adjust("10 days")
      yield* images.recordUse(keyOf(scope))
      yield* TestClock.adjust("10 days")
      assert.strictEqual(yield* images.collect, 0)
      yield* TestClock.adjust("5 days")
      assert.strictEqual(yield* images.collect, 1)
      assert.deepStrictEqual(yield* left, [[], []])
      assert.isTrue(Option.isSome(yield* build(scope)))
    }).pipe(Effect.provide(world))
  )

  it.effect("gives its builder 20 minutes, and the package registry only on request", () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const specs: Array<readonly [registry: boolean | undefined, minutes: number]> = []
      const listening = Layer.succeed(SandboxProvider, {
        ...provider,
        create: (spec) =>
          Effect.andThen(
            Effect.sync(() => specs.push([spec.registry, Duration.toMinutes(spec.lifetime)])),
            provider.create(spec)
          )
      })
      const images = yield* BaseImages.pipe(
        Effect.provide(Layer.fresh(BaseImages.layer).pipe(Layer.provide(listening)))
      )
      const key = ImageKey.make("everybody/scaffold")
      const build = { account: null, prepare: () => Effect.void, explain: () => "It was no use" }
      yield* images.build({ ...build, key, registry: true })
      yield* images.build({ ...build, key: ImageKey.make("everybody/other") })
      assert.deepStrictEqual(specs, [
        [true, 20],
        [undefined, 20]
      ])
      assert.isNull(Option.getOrThrow(yield* images.find(key)).account)
    }).pipe(Effect.provide(world))
  )
})
