import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import { Environments } from "@castellan/domain/account/Environments.ts"
import { Setups } from "@castellan/domain/account/Setups.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { Snapshots } from "@castellan/domain/account/Snapshots.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { RepoHost, RepoUnavailable } from "@castellan/domain/repo/RepoHost.ts"
import type { RunId } from "@castellan/domain/task/TaskRun.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Logger, Option } from "effect"
import { TestClock } from "effect/testing"
import { useCases } from "./useCases.ts"

const world = Layer.fresh(useCases().pipe(Layer.provideMerge(World.layer)))

/** The use cases over a World with some ports replaced. */
const over = <P>(
  instead: Layer.Layer<P, never, Layer.Success<typeof World.layer>>,
  more: { readonly liveAtMost?: number } = {}
) =>
  Layer.fresh(
    useCases(more).pipe(Layer.provideMerge(instead), Layer.provideMerge(World.layer), Layer.provide(Logger.layer([])))
  )

/** A host that fails with the failures that `next` gives, until it gives none. */
const failing = (next: () => RepoUnavailable | undefined) =>
  Layer.effect(
    RepoHost,
    Effect.map(RepoHost, (real): RepoHost["Service"] => ({
      ...real,
      ensure: (repo) =>
        Effect.suspend((): Effect.Effect<Effect.Success<ReturnType<typeof real.ensure>>, RepoUnavailable> => {
          const failure = next()
          return failure === undefined ? real.ensure(repo) : Effect.fail(failure)
        })
    }))
  )

const unavailable = (retryable: boolean, retryAfterMs: number | null = null) =>
  new RepoUnavailable({ operation: "ensure", retryable, retryAfterMs })

/** The run after all work that does not wait for time. */
const standing = Effect.fnUntraced(function* (scope: AccountScope, id: RunId) {
  yield* TestClock.adjust(0)
  return yield* Effect.orDie(Effect.flatMap(TaskRuns, (runs) => runs.get(scope, id)))
})

const statuses = (scope: AccountScope) =>
  Effect.flatMap(AccountSandboxes, (sandboxes) =>
    Effect.map(sandboxes.list(scope, { limit: 100, cursor: null }), ({ rows }) => rows.map(({ status }) => status))
  )

const ended = Effect.fnUntraced(function* (scope: AccountScope, id: RunId) {
  return yield* (yield* TaskRuns).awaitEnd(scope, id, Duration.minutes(10))
})

const setUp = Effect.fnUntraced(function* (scope: AccountScope) {
  const { id } = yield* (yield* Setups).start(scope, Option.none())
  return yield* ended(scope, id)
})

describe("A setup", () => {
  it.effect("leaves a repository with the account's files, a snapshot to boot from, and a stopped sandbox", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const run = yield* setUp(scope)
      assert.deepStrictEqual([run.status, run.error], ["COMPLETED", null])
      const { environment, tree } = yield* (yield* Environments).view(scope)
      const { repo, snapshot } = Option.getOrThrow(environment)
      assert.deepStrictEqual(run.output, { githubRepo: repo, snapshotId: snapshot! })
      assert.deepStrictEqual(
        Option.getOrThrow(tree).entries.map(({ path }) => path),
        ["README.md"]
      )
      const { rows } = yield* (yield* AccountSandboxes).list(scope, { limit: 100, cursor: null })
      assert.deepStrictEqual(
        rows.map(({ status }) => status),
        ["stopped"]
      )
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [snapshot!])
    }).pipe(Effect.provide(world))
  )

  it.effect("waits as long as the repository host asks, and then continues", () => {
    const failures = [unavailable(true, 90_000)]
    return Effect.gen(function* () {
      const scope = yield* given.scope
      const { id } = yield* (yield* Setups).start(scope, Option.none())
      const waiting = yield* standing(scope, id)
      assert.deepStrictEqual([waiting.status, waiting.attempt], ["REATTEMPTING", 1])
      const message = "The repository host could not be reached; trying again"
      assert.strictEqual(waiting.logs.at(-1)?.message, message)
      yield* TestClock.adjust(89_999)
      assert.strictEqual((yield* standing(scope, id)).status, "REATTEMPTING")
      yield* TestClock.adjust(1)
      const run = yield* standing(scope, id)
      assert.deepStrictEqual([run.status, run.attempt], ["COMPLETED", 2])
      assert.deepStrictEqual(yield* statuses(scope), ["stopped"])
    }).pipe(Effect.provide(over(failing(() => failures.shift()))))
  })

  it.effect("continues if its sandbox expired while it waited", () => {
    const failures = [unavailable(true, 3_600_000)]
    return Effect.gen(function* () {
      const scope = yield* given.scope
      const { id } = yield* (yield* Setups).start(scope, Option.none())
      yield* TestClock.adjust("2 hours")
      assert.strictEqual((yield* standing(scope, id)).status, "COMPLETED")
      assert.deepStrictEqual(yield* statuses(scope), ["stopped"])
    }).pipe(Effect.provide(over(failing(() => failures.shift()))))
  })

  it.effect("tries eight times with growing delays, then fails with a sentence and stops its sandbox", () => {
    const at: Array<number> = []
    return Effect.gen(function* () {
      const scope = yield* given.scope
      const { id } = yield* (yield* Setups).start(scope, Option.none())
      for (let second = 0; second < 130; second++) {
        const { attempt } = yield* standing(scope, id)
        if (attempt > at.length) at.push(second)
        yield* TestClock.adjust("1 second")
      }
      const run = yield* standing(scope, id)
      assert.deepStrictEqual([run.status, run.attempt], ["FAILED", 8])
      assert.strictEqual(run.error, "The repository host could not be reached")
      assert.deepStrictEqual(at, [0, 1, 3, 7, 15, 31, 63, 123])
      assert.deepStrictEqual(yield* statuses(scope), ["stopped"])
      const environment = Option.getOrThrow(yield* (yield* EnvironmentStore).get(scope))
      assert.deepStrictEqual([environment.snapshot, environment.repo], [null, null])
    }).pipe(Effect.provide(over(failing(() => unavailable(true)))))
  })

  it.effect("fails at once if the host refuses, and the next setup starts from the beginning", () => {
    const failures = [unavailable(false)]
    return Effect.gen(function* () {
      const scope = yield* given.scope
      const failed = yield* setUp(scope)
      assert.deepStrictEqual([failed.status, failed.attempt], ["FAILED", 1])
      assert.strictEqual(failed.error, "The repository host refused the server's request")
      assert.deepStrictEqual(yield* statuses(scope), ["stopped"])
      const second = yield* setUp(scope)
      assert.notStrictEqual(second.id, failed.id)
      assert.strictEqual(second.status, "COMPLETED")
    }).pipe(Effect.provide(over(failing(() => failures.shift()))))
  })

  it.effect("is retried after a defect, a limited number of times", () => {
    let faults = 1
    const broken = Layer.effect(
      RepoHost,
      Effect.map(RepoHost, (real): RepoHost["Service"] => ({
        ...real,
        ensure: (repo) => Effect.suspend(() => (faults-- > 0 ? Effect.die(new Error("a fault")) : real.ensure(repo)))
      }))
    )
    return Effect.gen(function* () {
      const scope = yield* given.scope
      const run = yield* setUp(scope).pipe(
        Effect.forkChild,
        Effect.tap(TestClock.adjust("1 minute")),
        Effect.flatMap(Fiber.join)
      )
      assert.deepStrictEqual([run.status, run.attempt], ["COMPLETED", 2])
      faults = Number.POSITIVE_INFINITY
      const { id } = yield* (yield* Setups).start(scope, Option.none())
      for (let minute = 0; minute < 10; minute++) yield* TestClock.adjust("1 minute")
      const failed = yield* standing(scope, id)
      assert.deepStrictEqual([failed.status, failed.attempt], ["FAILED", 8])
      assert.strictEqual(failed.error, "Something went wrong in the service")
      assert.deepStrictEqual(yield* statuses(scope), ["stopped", "stopped"])
    }).pipe(Effect.provide(over(broken)))
  })

  it.effect("is shared by all requests while it runs, and a new one starts after its end", () => {
    const failures = [unavailable(true, 60_000)]
    return Effect.gen(function* () {
      const scope = yield* given.scope
      const start = Effect.flatMap(Setups, (setups) => setups.start(scope, Option.none()))
      const all = yield* Effect.all(
        Array.from({ length: 20 }, () => start),
        { concurrency: "unbounded" }
      )
      yield* standing(scope, all[0]!.id)
      const ids = new Set([...all, yield* start].map(({ id }) => id))
      assert.strictEqual(ids.size, 1)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* standing(scope, all[0]!.id)).status, "COMPLETED")
      assert.isFalse(ids.has((yield* start).id))
    }).pipe(Effect.provide(over(failing(() => failures.shift()))))
  })

  it.effect("stops its sandbox when it is canceled, even while it waits, and creates nothing afterwards", () => {
    const failures = [unavailable(true, 60_000)]
    return Effect.gen(function* () {
      const scope = yield* given.scope
      const { id } = yield* (yield* Setups).start(scope, Option.none())
      assert.strictEqual((yield* standing(scope, id)).status, "REATTEMPTING")
      yield* (yield* TaskRuns).cancel(scope, id)
      yield* TestClock.adjust("2 minutes")
      assert.strictEqual((yield* standing(scope, id)).status, "CANCELED")
      assert.deepStrictEqual(yield* statuses(scope), ["stopped"])
      assert.deepStrictEqual((yield* MemoryRepos).repos(), [])
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [])
    }).pipe(Effect.provide(over(failing(() => failures.shift()))))
  })

  it.effect("fails with a sentence if the account has reached its sandbox limit", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* (yield* AccountSandboxes).create(scope, { work: Option.none(), nonce: Option.none() })
      const run = yield* setUp(scope)
      assert.deepStrictEqual([run.status, run.attempt], ["FAILED", 1])
      assert.strictEqual(run.error, "The account has reached its sandbox limit")
      assert.deepStrictEqual(yield* statuses(scope), ["running"])
    }).pipe(Effect.provide(over(Layer.empty, { liveAtMost: 1 })))
  )

  it.effect("leaves only the snapshot of the last setup after some time", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      for (let n = 0; n < 3; n++) {
        assert.strictEqual((yield* setUp(scope)).status, "COMPLETED")
        yield* TestClock.adjust("1 minute")
      }
      const snapshots = yield* Snapshots
      const { snapshot } = Option.getOrThrow(yield* (yield* EnvironmentStore).get(scope))
      // A sandbox may be booting from it.
      assert.strictEqual(yield* snapshots.collect, 0)
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(yield* snapshots.collect, 2)
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [snapshot!])
      yield* TestClock.adjust("7 days")
      assert.strictEqual(yield* snapshots.collect, 1)
      assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [])
    }).pipe(Effect.provide(world))
  )
})
