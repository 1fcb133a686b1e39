import { AppPreviews } from "@castellan/domain/app/AppPreviews.ts"
import { AppFiles } from "../../src/app/AppFiles.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { AppTransition, applyAppTransition } from "@castellan/domain/app/AppLifecycle.ts"
import type { AppSandbox } from "@castellan/domain/app/AppSandbox.ts"
import { AppStore } from "@castellan/domain/app/AppStore.ts"
import { defaultTimes } from "@castellan/domain/app/AppTimes.ts"
import { ProjectPath } from "../../src/app/project/ProjectPath.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { SandboxProvider, type SandboxSpec, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DatabaseUnavailable } from "@castellan/domain/DatabaseUnavailable.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Cause, DateTime, Duration, Effect, Exit, Fiber, Layer, Logger, Option, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import { useCases } from "./useCases.ts"

const quiet = Logger.layer([])
const world = Layer.fresh(useCases().pipe(Layer.provideMerge(World.layer), Layer.provideMerge(quiet)))

const create = (scope: AccountScope, nonce: Option.Option<string> = Option.none()) =>
  Effect.flatMap(AppSandboxes, (apps) => apps.create(scope, nonce))

const active = (scope: AccountScope) =>
  Effect.flatMap(AppSandboxes, (apps) => Effect.option(apps.find(scope, Option.none())))

const isAlive = (app: AppSandbox) => Effect.flatMap(AppSandboxes, (apps) => apps.isAlive(app))

const reconcile = Effect.flatMap(AppSandboxes, (apps) => apps.reconcile)

/** The sandboxes of apps at the provider. */
const sandboxes = Effect.map(MemorySandboxes, (memory) =>
  memory
    .names()
    .filter((name) => !name.startsWith("img_"))
    .map(String)
)

const eventsOf = Effect.fnUntraced(function* (scope: AccountScope) {
  const events = yield* (yield* EventStore).read(scope, null, 100)
  return events.map(({ event }) => [event.type, event.sandbox, event.reason] as const)
})

/** Another server over the same ports, with some operations of the provider replaced. */
const another = (
  instead: (real: SandboxProvider["Service"]) => Partial<SandboxProvider["Service"]> = () => ({}),
  times = defaultTimes
) =>
  Layer.build(
    Layer.fresh(useCases(times)).pipe(
      Layer.provide(
        Layer.effect(
          SandboxProvider,
          Effect.map(SandboxProvider, (real) => ({ ...real, ...instead(real) }))
        )
      )
    )
  )

/** The result of an effect while the clock advances. */
const inTime = Effect.fnUntraced(function* <A, E, R>(seconds: number, doing: Effect.Effect<A, E, R>) {
  const fiber = yield* Effect.forkChild(doing)
  for (let second = 0; second < seconds; second++) yield* TestClock.adjust("1 second")
  return yield* Fiber.join(fiber)
})

const slowly = (real: SandboxProvider["Service"]) => ({
  create: (spec: SandboxSpec) => Effect.delay(real.create(spec), "5 seconds")
})

const down = new SandboxUnavailable({ operation: "create", retryable: true })

describe("An app", () => {
  it.effect(
    "serves its page when it is created, becomes the active one, and boots from an image that is built once",
    () =>
      Effect.gen(function* () {
        const [one, two] = [yield* given.scope, yield* given.scope]
        const provider = yield* SandboxProvider
        assert.isTrue(Option.isNone(yield* active(one)))
        const app = yield* create(one)
        assert.match(app.name, /^app-[0-9a-z]{20}$/)
        assert.deepStrictEqual([app.state, app.account], ["ready", one.account])
        assert.isTrue(yield* isAlive(app))
        assert.deepStrictEqual(yield* active(one), Option.some(app))
        const connection = yield* Effect.exit(Effect.scoped((yield* AppPreviews).connect(app.name, app.port)))
        assert.strictEqual(connection._tag, "Success")
        yield* create(two)
        assert.strictEqual((yield* MemorySandboxes).snapshots().length, 1)
        assert.strictEqual((yield* sandboxes).length, 2)
        assert.strictEqual((yield* provider.findMany([app.name])).length, 1)
      }).pipe(Effect.provide(world))
  )

  it.effect("replaces the previous app once its page answers, and emits the events", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const first = yield* create(scope)
      const second = yield* create(scope)
      assert.deepStrictEqual(yield* active(scope), Option.some(second))
      assert.deepStrictEqual(yield* sandboxes, [second.name])
      assert.deepStrictEqual(yield* eventsOf(scope), [
        ["sandbox.pending", first.name, null],
        ["sandbox.running", first.name, null],
        ["sandbox.pending", second.name, null],
        ["sandbox.stopping", first.name, "Another app took its place"],
        ["sandbox.running", second.name, null],
        ["sandbox.removed", first.name, "Another app took its place"]
      ])
    }).pipe(Effect.provide(world))
  )

  it.effect("is created once for many concurrent requests, also on another server", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* create(scope)
      const servers = [yield* another(slowly), yield* another(slowly)]
      const all = Array.from({ length: 10 }, (_, n) => Effect.provide(create(scope), servers[n % 2]!))
      const made = yield* inTime(10, Effect.all(all, { concurrency: "unbounded" }))
      const names = new Set(made.map(({ name }) => name))
      assert.strictEqual(names.size, 1)
      assert.deepStrictEqual(yield* sandboxes, [...names].map(String))
    }).pipe(Effect.provide(world))
  )

  it.effect("is the same for the same nonce", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const nonce = Option.some("0123456789abcdefghjk")
      const app = yield* create(scope, nonce)
      assert.strictEqual((yield* create(scope, nonce)).name, app.name)
      assert.strictEqual((yield* sandboxes).length, 1)
    }).pipe(Effect.provide(world))
  )

  it.effect("that can't be created leaves the previous app as it was, and no sandbox behind", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const before = yield* create(scope)
      const failing: ReadonlyArray<Parameters<typeof another>[0]> = [
        () => ({ create: () => Effect.fail(down) }),
        (real) => ({ create: (spec) => Effect.andThen(real.create(spec), Effect.fail(down)) }),
        () => ({ start: () => Effect.fail(down) })
      ]
      for (const instead of failing) {
        const failure = yield* Effect.flip(create(scope)).pipe(Effect.provide(yield* another(instead)))
        assert.deepStrictEqual([failure._tag, failure.reason.code, failure.reason.retryAfterMs] as const, [
          "AppNotCreated",
          "provider_unavailable",
          1000
        ])
        assert.deepStrictEqual(yield* active(scope), Option.some(before))
        assert.isTrue(yield* isAlive(before))
        assert.deepStrictEqual(yield* sandboxes, [before.name])
      }
    }).pipe(Effect.provide(world))
  )

  it.effect("whose page never answers is abandoned and ended", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const before = yield* create(scope)
      const mute = yield* another(({ start }) => ({
        start: (name, spec) => start(name, spec.id.startsWith("dev_") ? { ...spec, command: "true" } : spec)
      }))
      const failure = yield* inTime(70, Effect.flip(create(scope)).pipe(Effect.provide(mute)))
      assert.deepStrictEqual([failure._tag, failure.reason.code], ["AppNotCreated", "app_silent"])
      assert.deepStrictEqual(yield* sandboxes, [before.name])
    }).pipe(Effect.provide(world))
  )

  it.effect("is ended permanently by its owner, any number of times, and by no other account", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* given.scope, yield* given.scope]
      const apps = yield* AppSandboxes
      const [mine, theirs] = [yield* create(one), yield* create(two)]
      yield* apps.terminate(one, Option.some(theirs.name))
      yield* apps.terminate(one, Option.some("no app"))
      assert.isTrue(yield* isAlive(theirs))
      yield* apps.terminate(one, Option.none())
      yield* apps.terminate(one, Option.some(mine.name))
      assert.isTrue(Option.isNone(yield* active(one)))
      assert.strictEqual((yield* Effect.flip(apps.find(one, Option.some(mine.name))))._tag, "AppNotFound")
      assert.strictEqual((yield* Effect.flip(apps.find(one, Option.some(theirs.name))))._tag, "AppNotFound")
      assert.deepStrictEqual(yield* active(two), Option.some(theirs))
      assert.deepStrictEqual(yield* sandboxes, [theirs.name])
    }).pipe(Effect.provide(world))
  )

  it.effect("that the provider can't end now is ended later", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const app = yield* create(scope)
      const stuck = yield* another(() => ({ remove: () => Effect.fail(down) }))
      const end = Effect.flatMap(AppSandboxes, (apps) => apps.terminate(scope, Option.none()))
      assert.strictEqual((yield* Effect.flip(end.pipe(Effect.provide(stuck))))._tag, "SandboxUnavailable")
      assert.isTrue(Option.isNone(yield* active(scope)))
      assert.deepStrictEqual(yield* sandboxes, [app.name])
      yield* TestClock.adjust("2 minutes")
      yield* reconcile
      assert.deepStrictEqual(yield* sandboxes, [])
    }).pipe(Effect.provide(world))
  )

  it.effect("that is ended during its creation does not become ready", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* create(scope)
      const making = yield* Effect.forkChild(Effect.flip(create(scope)).pipe(Effect.provide(yield* another(slowly))))
      yield* TestClock.adjust("1 second")
      yield* (yield* AppSandboxes).terminate(scope, Option.none())
      for (let second = 0; second < 60; second++) yield* TestClock.adjust("1 second")
      assert.strictEqual((yield* Fiber.join(making))._tag, "AppNotCreated")
      assert.isTrue(Option.isNone(yield* active(scope)))
      assert.deepStrictEqual(yield* sandboxes, [])
    }).pipe(Effect.provide(world))
  )

  it.effect("whose server stopped is completed by the next create, and otherwise ended", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* given.scope, yield* given.scope]
      yield* create(one)
      for (const scope of [one, two]) {
        const life = yield* Scope.make()
        const server = yield* Scope.provide(another(slowly), life)
        const stuck = yield* Effect.forkChild(Effect.exit(create(scope)).pipe(Effect.provide(server)))
        yield* TestClock.adjust("1 second")
        yield* Scope.close(life, Exit.void)
        yield* Fiber.join(stuck)
      }
      const starting = (yield* (yield* AppStore).listLive(one)).at(-1)!
      assert.strictEqual(starting.state, "starting")
      const app = yield* inTime(70, create(one))
      assert.deepStrictEqual([app.name, app.state], [starting.name, "ready"])
      yield* reconcile
      yield* TestClock.adjust("2 minutes")
      yield* reconcile
      assert.deepStrictEqual(yield* (yield* AppStore).listLive(two), [])
      assert.deepStrictEqual(yield* sandboxes, [app.name])
    }).pipe(Effect.provide(world))
  )

  it.effect("stops after half an hour without use, keeps its files for a week, and is then removed", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const app = yield* create(scope)
      yield* TestClock.adjust("31 minutes")
      yield* reconcile
      const asleep = Option.getOrThrow(yield* active(scope))
      assert.deepStrictEqual([asleep.state, asleep.reason], ["stopped", "Its time was up"])
      assert.isFalse(yield* isAlive(asleep))
      assert.deepStrictEqual(yield* sandboxes, [app.name])
      yield* TestClock.adjust("6 days")
      yield* reconcile
      assert.deepStrictEqual(yield* sandboxes, [app.name])
      yield* TestClock.adjust("2 days")
      yield* reconcile
      assert.deepStrictEqual(yield* sandboxes, [])
      assert.isTrue(Option.isNone(yield* active(scope)))
      assert.deepStrictEqual(
        (yield* eventsOf(scope)).map(([type]) => type),
        ["sandbox.pending", "sandbox.running", "sandbox.stopped", "sandbox.stopping", "sandbox.removed"]
      )
    }).pipe(Effect.provide(world))
  )

  it.effect("that is used keeps running, however short its idle time", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const app = yield* create(scope)
      for (let second = 0; second < 300; second += 20) {
        yield* TestClock.adjust("20 seconds")
        const now = Option.getOrThrow(yield* active(scope))
        yield* (yield* AppSandboxes).recordActivity(now)
      }
      assert.isTrue(yield* isAlive(app))
    }).pipe(
      Effect.provide(
        useCases({ ...defaultTimes, idle: Duration.minutes(1) }).pipe(Layer.provideMerge(World.layer), Layer.fresh)
      )
    )
  )

  it.effect("whose page is viewed keeps running, and one whose status is read does not", () =>
    Effect.gen(function* () {
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [seen, forgotten] = [yield* create(one), yield* create(two)]
      for (let minute = 0; minute < 60; minute += 10) {
        yield* TestClock.adjust("10 minutes")
        yield* Effect.ignore(Effect.scoped((yield* AppPreviews).connect(seen.name, seen.port)))
        yield* isAlive(forgotten)
        yield* reconcile
      }
      assert.isTrue(yield* isAlive(seen))
      assert.isFalse(yield* isAlive(forgotten))
    }).pipe(Effect.provide(world))
  )

  it.effect("that is stopped is resumed with its files by a change, and not by a read", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const projects = yield* AppFiles
      const app = yield* create(scope)
      const change = (content: string) =>
        Stream.runCollect(
          projects.apply(app, { files: [{ path: ProjectPath.make("src/a.ts"), content }], packages: [] })
        )
      yield* change("one")
      yield* TestClock.adjust("31 minutes")
      assert.strictEqual((yield* Effect.flip(projects.files(app, { contents: false })))._tag, "FilesNotListed")
      assert.strictEqual((yield* projects.diagnose(app)).output, "The sandbox is not running")
      const away = yield* Effect.flip(Effect.scoped((yield* AppPreviews).connect(app.name, app.port)))
      assert.deepStrictEqual([away._tag, "state" in away && away.state], ["PreviewUnavailable", "stopped"])
      assert.isFalse(yield* isAlive(app))
      yield* change("two")
      assert.isTrue(yield* isAlive(app))
      const { contents } = yield* projects.files(app, { contents: true })
      assert.strictEqual(contents?.["src/a.ts"], "two")
      assert.strictEqual(Option.getOrThrow(yield* active(scope)).state, "ready")
    }).pipe(Effect.provide(world))
  )

  it.effect("that is ready stays active, however long the previous one takes to end", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const before = yield* create(scope)
      const server = yield* another((real) => ({ remove: (name) => Effect.delay(real.remove(name), "1 minute") }))
      const app = yield* inTime(70, create(scope).pipe(Effect.provide(server)))
      assert.deepStrictEqual(yield* active(scope), Option.some(app))
      assert.isTrue(yield* isAlive(app))
      assert.isFalse(yield* isAlive(before))
    }).pipe(Effect.provide(world))
  )

  it.effect("that another server completed is not ended by the first server after a long pause", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* create(scope)
      // Its lease can't be renewed either, because the whole server is paused.
      const still = yield* another((real) => ({ create: (spec) => Effect.delay(real.create(spec), "1 minute") }), {
        ...defaultTimes,
        lease: Duration.minutes(10)
      })
      const store = yield* AppStore
      const making = yield* Effect.forkChild(create(scope).pipe(Effect.provide(still)))
      yield* TestClock.adjust("1 second")
      const [row] = (yield* store.listLive(scope)).filter(({ state }) => state === "starting")
      const due = applyAppTransition(
        row!,
        AppTransition.RenewLease({ leaseExpiresAt: yield* DateTime.now }),
        yield* DateTime.now
      )
      assert.isTrue(yield* store.compareAndSet(scope, Option.toArray(due)))
      const app = yield* inTime(5, create(scope))
      assert.deepStrictEqual([app.name, app.state], [row!.name, "ready"])
      const told = yield* inTime(70, Fiber.join(making))
      assert.strictEqual(told.name, app.name)
      assert.isTrue(yield* isAlive(app))
      assert.strictEqual(Option.getOrThrow(yield* active(scope)).name, app.name)
    }).pipe(Effect.provide(world))
  )

  it.effect("whose sandbox is created after its server gave it up leaves no sandbox behind", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* create(scope)
      const provider = yield* SandboxProvider
      const late = yield* another(() => ({ create: () => Effect.delay(Effect.fail(down), "3 seconds") }))
      const making = yield* Effect.forkChild(Effect.flip(create(scope)).pipe(Effect.provide(late)))
      yield* TestClock.adjust("1 second")
      const [row] = (yield* (yield* AppStore).listLive(scope)).filter(({ state }) => state === "starting")
      const end = Effect.flatMap(AppSandboxes, (apps) => apps.terminate(scope, Option.none()))
      yield* end
      yield* end
      yield* inTime(5, Fiber.join(making))
      yield* provider.create({ name: row!.name, from: Option.none(), lifetime: Duration.hours(1) })
      yield* TestClock.adjust("1 minute")
      yield* reconcile
      assert.deepStrictEqual(yield* sandboxes, [])
      assert.deepStrictEqual(yield* (yield* AppStore).listLive(scope), [])
    }).pipe(Effect.provide(world))
  )

  it.effect("that resumes is ready at once even if its page does not answer, and its files can be changed", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const app = yield* create(scope)
      yield* TestClock.adjust("31 minutes")
      yield* reconcile
      assert.strictEqual(Option.getOrThrow(yield* active(scope)).state, "stopped")
      const mute = yield* another(({ start }) => ({
        start: (name, spec) => start(name, spec.id.startsWith("dev_") ? { ...spec, command: "true" } : spec)
      }))
      const change = Effect.flatMap(AppFiles, (projects) =>
        Stream.runCollect(
          projects.apply(app, { files: [{ path: ProjectPath.make("src/a.ts"), content: "mended" }], packages: [] })
        )
      )
      const events = yield* inTime(60, change.pipe(Effect.provide(mute)))
      assert.deepInclude(events.at(-1), {
        _tag: "Complete",
        files: ["src/a.ts"],
        errors: ["The dev server does not answer"]
      })
      const now = Option.getOrThrow(yield* active(scope))
      assert.strictEqual(now.state, "ready")
      yield* TestClock.adjust("20 minutes")
      yield* (yield* AppSandboxes).recordActivity(now)
      yield* TestClock.adjust("20 minutes")
      assert.isTrue(yield* isAlive(app))
    }).pipe(Effect.provide(world))
  )

  it.effect("keeps no state of requests, however many there are", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const app = yield* create(scope)
      const provider = yield* SandboxProvider
      const started: Array<CommandId> = []
      const server = yield* another(({ start }) => ({
        start: (name, spec) => Effect.tap(start(name, spec), () => Effect.sync(() => void started.push(spec.id)))
      }))
      const files = Effect.flatMap(AppFiles, (projects) => projects.files(app, { contents: true }))
      yield* Effect.andThen(files, files).pipe(Effect.provide(server))
      assert.strictEqual(started.length, 2)
      for (const id of started) {
        assert.strictEqual((yield* Effect.flip(provider.command(app.name, id)))._tag, "CommandNotFound")
      }
    }).pipe(Effect.provide(world))
  )

  it.effect("that many requests use at the same moment is extended once", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const app = yield* create(scope)
      yield* TestClock.adjust("20 minutes")
      const { recordActivity: used } = yield* AppSandboxes
      yield* Effect.all(
        Array.from({ length: 20 }, () => used(app)),
        { concurrency: "unbounded" }
      )
      yield* TestClock.adjust("29 minutes")
      assert.isTrue(yield* isAlive(app))
      yield* TestClock.adjust("2 minutes")
      assert.isFalse(yield* isAlive(app))
    }).pipe(Effect.provide(world))
  )

  it.effect("fails to be created or changed if the store is unavailable, and does not report success", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const app = yield* create(scope)
      const gone = Effect.die(new DatabaseUnavailable(new Error("connect ECONNREFUSED")))
      const away = yield* another(() => ({ create: () => gone, start: () => gone }))
      const isAway = (exit: Exit.Exit<unknown, unknown>) =>
        Exit.isFailure(exit) && Cause.squash(exit.cause) instanceof DatabaseUnavailable
      assert.isTrue(isAway(yield* Effect.exit(create(scope).pipe(Effect.provide(away)))))
      const change = Effect.flatMap(AppFiles, (projects) =>
        Stream.runCollect(
          projects.apply(app, { files: [{ path: ProjectPath.make("src/a.ts"), content: "1" }], packages: [] })
        )
      )
      assert.isTrue(isAway(yield* Effect.exit(change.pipe(Effect.provide(away)))))
    }).pipe(Effect.provide(world))
  )

  it.effect("is built from another image if the provider lost the first", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const provider = yield* SandboxProvider
      yield* create(scope)
      const [image] = (yield* MemorySandboxes).snapshots()
      yield* provider.removeSnapshot(image!)
      const app = yield* create(scope)
      assert.isTrue(yield* isAlive(app))
      assert.notInclude((yield* MemorySandboxes).snapshots(), image)
    }).pipe(Effect.provide(world))
  )
})
