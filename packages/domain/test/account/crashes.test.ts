import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { Environments } from "@castellan/domain/account/Environments.ts"
import { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { SandboxOperations } from "../../src/account/SandboxOperations.ts"
import { Setups } from "@castellan/domain/account/Setups.ts"
import { Snapshots } from "@castellan/domain/account/Snapshots.ts"
import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { hasEnded, type RunId } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { crashAtEachCall } from "@castellan/testkit/crashAtEachCall.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, Option } from "effect"
import { TestClock } from "effect/testing"
import { useCases } from "./useCases.ts"

/** One server process over ports that outlive it. Each port has a decorator that can kill the process. */
const life = Layer.fresh(
  useCases().pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Faults.around(AccountStore, "AccountStore"),
        Faults.around(EnvironmentStore, "EnvironmentStore"),
        Faults.around(SandboxProvider, "SandboxProvider"),
        Faults.around(RepoHost, "RepoHost"),
        Faults.around(TaskRunner, "TaskRunner"),
        Faults.around(TaskRunStore, "TaskRunStore")
      )
    )
  )
)

const world = Layer.mergeAll(World.layer, Faults.Faults.layer, Logger.layer([]))

const everything = { limit: 100, cursor: null }
const nothing = { work: Option.none(), nonce: Option.none() }

/** Waits for the end of the run. */
const ended = Effect.fnUntraced(function* (scope: AccountScope, id: RunId) {
  const runs = yield* TaskRuns
  for (let second = 0; second < 600; second++) {
    const run = yield* runs.get(scope, id)
    if (hasEnded(run)) return run
    yield* TestClock.adjust("1 second")
  }
  return yield* Effect.die(new Error("the run did not end"))
})

const setUp = Effect.fnUntraced(function* (scope: AccountScope) {
  const { id } = yield* (yield* Setups).start(scope, Option.none())
  return yield* ended(scope, id)
})

/** Long enough for all delays to pass. */
const aWhile = Effect.gen(function* () {
  for (let second = 0; second < 20; second++) yield* TestClock.adjust("1 second")
})

/** A day of housekeeping. */
const aDayLater = Effect.gen(function* () {
  yield* TestClock.adjust("1 day")
  yield* (yield* AccountSandboxes).reconcile
  yield* (yield* Snapshots).collect
  yield* (yield* AccountSandboxes).tidy
})

/** Every sandbox at the provider has a row, every row that should has a sandbox, and no operation is unfinished. */
const rowsAndSandboxesAgree = Effect.fnUntraced(function* (scope: AccountScope, when: string) {
  const { rows } = yield* (yield* AccountSandboxes).list(scope, everything)
  const names = (yield* MemorySandboxes).names()
  for (const name of names)
    assert.include(
      rows.map((row) => row.name),
      name,
      when
    )
  for (const row of rows) {
    assert.notStrictEqual(row.status, "pending", when)
    if (row.status === "running") assert.include(names, row.name, when)
  }
  return rows
})

describe("A setup, killed at any step", () => {
  it.effect("ends with one repository, one snapshot and no running sandbox when it is resumed", () =>
    Effect.gen(function* () {
      const steps = yield* crashAtEachCall({
        world,
        server: life,
        prepare: () => Effect.void,
        act: setUp,
        verify: Effect.fnUntraced(function* (scope, when) {
          const run = yield* setUp(scope)
          assert.strictEqual(run.status, "COMPLETED", `${when}: ${run.error}`)
          yield* aDayLater
          const { environment, tree } = yield* (yield* Environments).view(scope)
          const { repo, setup, snapshot } = Option.getOrThrow(environment)
          assert.deepStrictEqual(run.output, { githubRepo: repo!, snapshotId: snapshot! }, when)
          assert.strictEqual(setup, run.id, when)
          assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [snapshot!], when)
          assert.strictEqual((yield* MemoryRepos).repos().length, 1, when)
          assert.deepStrictEqual(
            Option.getOrThrow(tree).entries.map(({ path }) => path),
            ["README.md"],
            when
          )
          const rows = yield* rowsAndSandboxesAgree(scope, when)
          assert.deepStrictEqual(new Set(rows.map(({ status }) => status)), new Set(["stopped"]), when)
        })
      })
      assert.includeMembers(steps, [
        "EnvironmentStore.claimSetup",
        "TaskRunner.enqueue",
        "AccountStore.add",
        "SandboxProvider.create",
        "RepoHost.ensure",
        "RepoHost.push",
        "EnvironmentStore.reserveSnapshot",
        "SandboxProvider.snapshot",
        "EnvironmentStore.completeSnapshot",
        "EnvironmentStore.saveSetup",
        "SandboxProvider.stop"
      ])
    })
  )
})

describe("Clearing an account, killed at any step", () => {
  it.effect("leaves no sandbox, no snapshot and no repository when it is repeated", () =>
    Effect.gen(function* () {
      const steps = yield* crashAtEachCall({
        world,
        server: life,
        prepare: Effect.fnUntraced(function* (scope) {
          yield* setUp(scope)
          const { sandbox } = yield* (yield* AccountSandboxes).create(scope, nothing)
          return sandbox.name
        }),
        act: Effect.fnUntraced(function* (scope) {
          yield* (yield* Environments).clear(scope)
        }),
        verify: Effect.fnUntraced(function* (scope, when) {
          yield* (yield* Environments).clear(scope)
          yield* nothingIsLeft(scope, when)
        })
      })
      assert.includeMembers(steps, [
        "SandboxProvider.remove",
        "AccountStore.recordRemoved",
        "RepoHost.remove",
        "SandboxProvider.removeSnapshot",
        "EnvironmentStore.deleteSnapshot",
        "EnvironmentStore.remove"
      ])
    })
  )

  it.effect("leaves nothing of a setup that was running, at whichever step", () =>
    Effect.gen(function* () {
      const steps: Array<string> = []
      for (let call = 0, reached = true; reached; call++) {
        yield* Effect.gen(function* () {
          const faults = yield* Faults.Faults
          const scope = yield* given.scope
          yield* Effect.gen(function* () {
            const callsBefore = faults.calls.length
            const held = faults.holdAt(callsBefore + call)
            yield* Effect.forkChild(Effect.flatMap(Setups, (setups) => setups.start(scope, Option.none())))
            yield* aWhile
            reached = faults.calls.length === callsBefore + call + 1
            const step = faults.calls[callsBefore + call]
            if (!reached) return
            steps.push(step!)
            yield* (yield* Environments).clear(scope)
            yield* held.release
            yield* aDayLater
            // A setup that was not yet claimed begins after the clearing.
            const later = yield* (yield* EnvironmentStore).get(scope)
            if (Option.isSome(later)) yield* (yield* Environments).clear(scope)
            yield* nothingIsLeft(scope, `cleared while the setup was before ${step}, call ${call}`)
          }).pipe(Effect.provide(life))
        }).pipe(Effect.provide(Layer.fresh(world)))
      }
      assert.includeMembers(steps, [
        "SandboxProvider.create",
        "RepoHost.ensure",
        "RepoHost.push",
        "EnvironmentStore.completeSnapshot"
      ])
    })
  )
})

const nothingIsLeft = Effect.fnUntraced(function* (scope: AccountScope, when: string) {
  assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [], when)
  assert.deepStrictEqual((yield* MemoryRepos).repos(), [], when)
  assert.isTrue(Option.isNone(yield* (yield* EnvironmentStore).get(scope)), when)
  yield* rowsAndSandboxesAgree(scope, when)
  assert.deepStrictEqual((yield* MemorySandboxes).names(), [], when)
})

describe("Forking a sandbox, killed at any step", () => {
  it.effect("leaves one or both sandboxes, each with its row, and no snapshot", () =>
    Effect.gen(function* () {
      const steps = yield* crashAtEachCall({
        world,
        server: life,
        prepare: (scope) =>
          Effect.flatMap(AccountSandboxes, (sandboxes) =>
            Effect.map(sandboxes.create(scope, nothing), ({ sandbox }) => sandbox.name)
          ),
        act: Effect.fnUntraced(function* (scope, name) {
          yield* (yield* SandboxOperations).fork(scope, name, Option.some("abcdefghjkmnpqrstvwx"))
        }),
        verify: Effect.fnUntraced(function* (scope, when, name) {
          const fork = yield* (yield* SandboxOperations).fork(scope, name, Option.some("abcdefghjkmnpqrstvwx"))
          assert.strictEqual(fork.status, "running", when)
          assert.strictEqual((yield* MemorySandboxes).names().length, 2, when)
          yield* aDayLater
          assert.deepStrictEqual((yield* MemorySandboxes).snapshots(), [], when)
          yield* rowsAndSandboxesAgree(scope, when)
        })
      })
      assert.includeMembers(steps, [
        "EnvironmentStore.reserveSnapshot",
        "SandboxProvider.snapshot",
        "SandboxProvider.create"
      ])
    })
  )
})
