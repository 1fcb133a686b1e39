import { AccountSandboxes, type NewSandbox } from "@castellan/domain/account/AccountSandboxes.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Command, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import * as CommandRuns from "@castellan/domain/task/CommandRuns.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Layer, Option, Stream } from "effect"
import { TestClock } from "effect/testing"

const useCases = CommandRuns.layer({ concurrency: 10 }).pipe(
  Layer.provideMerge(
    AccountSandboxes.layer({
      agent: ["echo", "prompted:"],
      lifetime: Duration.minutes(30),
      liveAtMost: 100,
      keepStopped: Duration.days(7)
    })
  ),
  Layer.provideMerge(TaskRuns.layer),
  Layer.provideMerge(Sandboxes.layer),
  Layer.provideMerge(World.crypto)
)

const page = { limit: 100, cursor: null }

const nothing: NewSandbox = { work: Option.none(), nonce: Option.none() }

const echo: NewSandbox = {
  work: Option.some({ _tag: "Command", command: new Command({ command: "echo", args: ["hi"], cwd: null, env: {} }) }),
  nonce: Option.none()
}

describe("AccountSandboxes", () => {
  it.effect("lists sandboxes in their last known state while the provider is unavailable", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const { sandbox } = yield* (yield* AccountSandboxes).create(scope, nothing)
      const real = yield* SandboxProvider
      const mute = new SandboxUnavailable({ operation: "findMany", retryable: true })
      const deaf = Layer.succeed(SandboxProvider, { ...real, findMany: () => Effect.fail(mute) })
      const list = Effect.flatMap(AccountSandboxes, (sandboxes) => sandboxes.list(scope, page))
      const shown = yield* list.pipe(Effect.provide(Layer.fresh(useCases).pipe(Layer.provide(deaf))))
      assert.deepStrictEqual(shown.rows, [sandbox])
    }).pipe(Effect.provide(useCases.pipe(Layer.provideMerge(World.layer))))
  )

  it.effect("lists a sandbox that the provider lost as stopped, with the reason", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const sandboxes = yield* AccountSandboxes
      const { sandbox } = yield* sandboxes.create(scope, nothing)
      yield* (yield* SandboxProvider).remove(sandbox.name)
      const [shown] = (yield* sandboxes.list(scope, page)).rows
      assert.deepStrictEqual([shown?.status, shown?.reason], ["stopped", "The provider no longer has it"])
      const stored = yield* (yield* AccountStore).get(scope, sandbox.name)
      assert.strictEqual(Option.getOrThrow(stored).status, "stopped")
    }).pipe(Effect.provide(useCases.pipe(Layer.provideMerge(World.layer))))
  )

  it.effect("stores a sandbox that the provider refuses to create as failed, with the reason", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const real = yield* SandboxProvider
      const full = new SandboxUnavailable({ operation: "create", retryable: false })
      const refusing = Layer.succeed(SandboxProvider, { ...real, create: () => Effect.fail(full) })
      const create = Effect.flatMap(AccountSandboxes, (sandboxes) => Effect.flip(sandboxes.create(scope, echo)))
      const failure = yield* create.pipe(Effect.provide(Layer.fresh(useCases).pipe(Layer.provide(refusing))))
      assert.deepInclude(failure, {
        _tag: "SandboxNotCreated",
        reason: {
          code: "provider_refused",
          sentence: "The sandbox provider refused the server's request",
          retryAfterMs: null
        }
      })
      const { rows } = yield* (yield* AccountStore).list(scope, page)
      assert.deepStrictEqual(
        rows.map(({ reason, status }) => [status, reason]),
        [["failed", "The sandbox provider refused the server's request"]]
      )
      assert.deepStrictEqual((yield* (yield* TaskRunStore).list(scope, page)).rows, [])
    }).pipe(Effect.provide(useCases.pipe(Layer.provideMerge(World.layer))))
  )

  it.effect("removes a new sandbox and fails if its command can't be queued", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const real = yield* TaskRunner
      const broken = Layer.succeed(TaskRunner, { ...real, enqueue: () => Effect.die("the queue is down") })
      const create = Effect.flatMap(AccountSandboxes, (sandboxes) => Effect.exit(sandboxes.create(scope, echo)))
      const exit = yield* create.pipe(Effect.provide(Layer.fresh(useCases).pipe(Layer.provide(broken))))
      assert.isTrue(Exit.isFailure(exit))
      const { rows } = yield* (yield* AccountStore).list(scope, page)
      assert.deepStrictEqual(
        rows.map(({ reason, status }) => [status, reason]),
        [["failed", "Its command could not be queued"]]
      )
      assert.deepStrictEqual((yield* MemorySandboxes).names(), [])
    }).pipe(Effect.provide(useCases.pipe(Layer.provideMerge(World.layer))))
  )
})

/** One server process over ports that outlive it. Each port has a decorator that can kill the process. */
const life = useCases.pipe(
  Layer.provideMerge(
    Layer.mergeAll(
      Faults.around(AccountStore, "AccountStore"),
      Faults.around(SandboxProvider, "SandboxProvider"),
      Faults.around(TaskRunner, "TaskRunner"),
      Faults.around(TaskRunStore, "TaskRunStore")
    )
  ),
  Layer.fresh
)

const newSandbox: NewSandbox = { ...echo, nonce: Option.some("abcdefghjkmnpqrstvwx") }
const name = SandboxName.make("sbx_abcdefghjkmnpqrstvwx")

/** Every row has a sandbox or a reason, and every sandbox has a row. */
const nothingIsLost = Effect.fnUntraced(function* (scope: AccountScope, when: string) {
  const { rows } = yield* (yield* AccountStore).list(scope, page)
  const names = (yield* MemorySandboxes).names()
  for (const row of rows) {
    assert.notStrictEqual(row.status, "pending", when)
    if (row.status === "failed") assert.isNotNull(row.reason, when)
    else assert.include(names, row.name, when)
  }
  for (const name of names)
    assert.include(
      rows.map((row) => row.name),
      name,
      when
    )
})

describe("AccountSandboxes.create, killed at any step", () => {
  const world = Layer.mergeAll(World.layer, Faults.Faults.layer)

  it.effect("leaves no sandbox without a row and no row without a sandbox or a reason", () =>
    Effect.gen(function* () {
      const steps: Array<string> = []
      for (let call = 0; ; call++) {
        let reached = false
        for (const moment of ["before", "after"] as const) {
          yield* Effect.gen(function* () {
            const faults = yield* Faults.Faults
            const scope = yield* given.scope
            faults.crashAt(call, moment)
            const create = Effect.flatMap(AccountSandboxes, (sandboxes) => sandboxes.create(scope, newSandbox))
            yield* Effect.exit(create.pipe(Effect.provide(life)))
            reached = faults.calls.length > call
            if (reached && moment === "before") steps.push(faults.calls[call]!)
            const when = `killed ${moment} ${faults.calls[call]}`
            faults.heal()
            yield* TestClock.adjust("2 minutes")
            yield* Effect.flatMap(AccountSandboxes, (sandboxes) => sandboxes.reconcile).pipe(Effect.provide(life))
            yield* nothingIsLost(scope, when)
          }).pipe(Effect.provide(Layer.fresh(world)))
        }
        if (!reached) break
      }
      assert.includeMembers(steps, [
        "AccountStore.add",
        "SandboxProvider.create",
        "AccountStore.recordObserved",
        "TaskRunner.enqueue"
      ])
    })
  )

  it.effect("ends with one sandbox and one run that printed once when it is repeated", () =>
    Effect.gen(function* () {
      for (let call = 0; ; call++) {
        let reached = false
        for (const moment of ["before", "after"] as const) {
          yield* Effect.gen(function* () {
            const faults = yield* Faults.Faults
            const scope = yield* given.scope
            faults.crashAt(call, moment)
            const create = Effect.flatMap(AccountSandboxes, (sandboxes) => sandboxes.create(scope, newSandbox))
            yield* Effect.exit(create.pipe(Effect.provide(life)))
            reached = faults.calls.length > call
            const when = `killed ${moment} ${faults.calls[call]}`
            faults.heal()
            yield* Effect.gen(function* () {
              const { run, sandbox } = yield* (yield* AccountSandboxes).create(scope, newSandbox)
              assert.strictEqual(sandbox.name, name, when)
              assert.strictEqual(sandbox.status, "running", when)
              const runs = yield* TaskRuns
              const events = yield* Stream.runCollect(runs.log(scope, Option.getOrThrow(run), OutputPosition.start))
              const printed = events.flatMap((event) => (event._tag === "Printed" ? [event.output.text] : []))
              assert.deepStrictEqual(printed, ["hi\n"], when)
              assert.strictEqual((yield* runs.list(scope, page)).rows.length, 1, when)
            }).pipe(Effect.provide(life))
            assert.deepStrictEqual((yield* MemorySandboxes).names(), [name], when)
            yield* nothingIsLost(scope, when)
          }).pipe(Effect.provide(Layer.fresh(world)))
        }
        if (!reached) break
      }
    })
  )
})
