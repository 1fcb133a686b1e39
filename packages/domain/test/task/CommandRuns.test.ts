import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { Command } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { encodeInput } from "@castellan/domain/task/CommandRun.ts"
import * as CommandRuns from "@castellan/domain/task/CommandRuns.ts"
import { hasEnded, type RunId } from "@castellan/domain/task/TaskRun.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import * as given from "@castellan/testkit/given.ts"
import { asSteps, Step } from "@castellan/testkit/Program.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Fiber, Layer, Logger, Option, Stream } from "effect"
import { TestClock } from "effect/testing"

const name = SandboxName.make("sbx_test")

const useCases = CommandRuns.layer({ concurrency: 10 }).pipe(
  Layer.provideMerge(TaskRuns.layer),
  Layer.provideMerge(Sandboxes.layer),
  Layer.provideMerge(World.crypto)
)

/** A provider whose first calls of `start` fail. */
const failing = (times: number, retryable: boolean) =>
  Layer.effect(
    SandboxProvider,
    Effect.map(SandboxProvider, (real) => {
      let left = times
      const start: typeof real.start = (name, spec) =>
        left-- > 0 ? Effect.fail(new SandboxUnavailable({ operation: "start", retryable })) : real.start(name, spec)
      return { ...real, start }
    })
  )

const world = useCases.pipe(Layer.provideMerge(World.layer))
const worldFailing = (times: number, retryable: boolean) =>
  useCases.pipe(
    Layer.provideMerge(failing(times, retryable)),
    Layer.provideMerge(World.layer),
    Layer.provideMerge(Logger.layer([]))
  )

const sandbox = Effect.flatMap(SandboxProvider, (provider) =>
  provider.create({ name, from: Option.none(), lifetime: Duration.hours(2) })
)

const begin = Effect.fnUntraced(function* (scope: AccountScope, ...steps: ReadonlyArray<Step>) {
  const command = new Command({ ...asSteps(...steps), cwd: null, env: {} })
  const input = encodeInput({ sandbox: name, command, timeoutMs: 60_000 })
  return (yield* (yield* TaskRuns).start(scope, { task: "run-sandbox-command", input })).id
})

const print = (text: string) => Step.Print({ text, to: "stdout" })
const sleep = (seconds: number) => Step.Sleep({ millis: seconds * 1000 })

/** Waits for the end of the run. */
const ended = Effect.fnUntraced(function* (scope: AccountScope, id: RunId) {
  const runs = yield* TaskRuns
  for (let i = 0; i < 200; i++) {
    const run = yield* runs.get(scope, id)
    if (hasEnded(run)) return run
    yield* TestClock.adjust("1 second")
  }
  return yield* Effect.die(new Error("the run did not end"))
})

describe("A command run", () => {
  it.effect("completes with the output and the exit code, even if that is not zero", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* sandbox
      const run = yield* ended(scope, yield* begin(scope, print("out"), Step.Exit({ code: 9 })))
      assert.deepStrictEqual([run.status, run.attempt, run.error], ["COMPLETED", 1, null])
      assert.deepStrictEqual(run.output, { stdout: "out", stderr: "", exitCode: 9, truncated: false })
    }).pipe(Effect.provide(world))
  )

  it.effect("keeps the beginning of a long output, and marks it as truncated", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* sandbox
      const run = yield* ended(scope, yield* begin(scope, Step.Flood({ lines: 2000, length: 100 })))
      const output = run.output as { readonly stdout: string; readonly truncated: boolean }
      assert.isTrue(output.truncated)
      assert.isAbove(output.stdout.length, 60_000)
    }).pipe(Effect.provide(world))
  )

  it.effect("times out with the output until then", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* sandbox
      const run = yield* ended(scope, yield* begin(scope, print("early"), sleep(600)))
      assert.deepStrictEqual(
        [run.status, run.errorCode, run.error],
        ["TIMED_OUT", "deadline", "The command ran longer than it was allowed to"]
      )
      assert.strictEqual((run.output as { readonly stdout: string }).stdout, "early")
    }).pipe(Effect.provide(world))
  )

  it.effect("fails with the reason if its sandbox stops, is stopped, or does not exist", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const provider = yield* SandboxProvider
      yield* sandbox
      const under = yield* begin(scope, sleep(50))
      yield* TestClock.adjust("1 second")
      yield* provider.stop(name)
      const lost = yield* ended(scope, under)
      assert.deepStrictEqual(
        [lost.status, lost.errorCode, lost.error],
        ["FAILED", "sandbox_stopped", "The sandbox stopped while the command ran"]
      )
      const stopped = yield* ended(scope, yield* begin(scope, print("x")))
      assert.deepStrictEqual(
        [stopped.status, stopped.errorCode, stopped.error],
        ["FAILED", "sandbox_stopped", "The sandbox is not running"]
      )
      yield* provider.remove(name)
      const gone = yield* ended(scope, yield* begin(scope))
      assert.deepStrictEqual([gone.errorCode, gone.error], ["sandbox_deleted", "The sandbox no longer exists"])
    }).pipe(Effect.provide(world))
  )

  it.effect("is retried while the provider is unavailable", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* sandbox
      const run = yield* ended(scope, yield* begin(scope, print("at last")))
      assert.deepStrictEqual([run.status, run.attempt], ["COMPLETED", 4])
    }).pipe(Effect.provide(worldFailing(3, true)))
  )

  it.effect("fails after five attempts, or at once if a retry can't succeed", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* sandbox
      const run = yield* ended(scope, yield* begin(scope))
      assert.deepStrictEqual(
        [run.status, run.attempt, run.errorCode, run.error],
        ["FAILED", 5, "provider_unavailable", "The sandbox could not be reached"]
      )
    }).pipe(
      Effect.provide(worldFailing(100, true)),
      Effect.andThen(
        Effect.gen(function* () {
          const scope = yield* given.scope
          yield* sandbox
          const run = yield* ended(scope, yield* begin(scope))
          assert.deepStrictEqual([run.status, run.attempt], ["FAILED", 1])
        }).pipe(Effect.provide(worldFailing(100, false)))
      )
    )
  )

  it.effect("stays canceled, and its command is killed", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const runs = yield* TaskRuns
      const provider = yield* SandboxProvider
      yield* sandbox
      const id = yield* begin(scope, print("begun"), sleep(50))
      yield* TestClock.adjust("1 second")
      const canceled = yield* runs.cancel(scope, id)
      assert.deepStrictEqual(
        [canceled.status, canceled.output],
        ["CANCELED", { stdout: "begun", stderr: "", exitCode: 137, truncated: false }]
      )
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* runs.get(scope, id), canceled)
      assert.strictEqual((yield* provider.command(name, id as never)).end?.by, "killed")
    }).pipe(Effect.provide(world))
  )

  it.effect("fails with a code, a reason and no output if its program can't be started", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const runs = yield* TaskRuns
      yield* sandbox
      const failed = Effect.fnUntraced(function* (vector: { readonly command: string; readonly cwd?: string }) {
        const command = new Command({ cwd: null, ...vector, args: [], env: {} })
        const input = encodeInput({ sandbox: name, command, timeoutMs: 60_000 })
        const { id } = yield* runs.start(scope, { task: "run-sandbox-command", input })
        const { error, errorCode, output, status } = yield* ended(scope, id)
        assert.deepStrictEqual([status, output], ["FAILED", null])
        return [errorCode, error]
      })
      assert.deepStrictEqual(yield* failed({ command: "nope" }), [
        "command_not_found",
        'The sandbox has no program named "nope"'
      ])
      assert.deepStrictEqual(yield* failed({ command: "ls -la" }), [
        "command_not_found",
        'The sandbox has no program named "ls -la". "command" takes only the name of a program: put its arguments into "args"'
      ])
      assert.deepStrictEqual(yield* failed({ command: "true", cwd: "/no/such" }), [
        "cwd_not_found",
        'The directory "/no/such" does not exist in the sandbox'
      ])
    }).pipe(Effect.provide(world))
  )

  it.effect("is returned with its output to a caller who waits while it is canceled", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const runs = yield* TaskRuns
      yield* sandbox
      const id = yield* begin(scope, print("begun"), sleep(50))
      yield* TestClock.adjust("1 second")
      const waiting = yield* Effect.forkChild(runs.awaitEnd(scope, id, Duration.minutes(1)))
      const events = yield* Effect.forkChild(Stream.runCollect(runs.log(scope, id, OutputPosition.start)))
      yield* runs.cancel(scope, id)
      yield* TestClock.adjust("10 seconds")
      const run = yield* Fiber.join(waiting)
      assert.strictEqual((run.output as { readonly stdout: string }).stdout, "begun")
      const last = (yield* Fiber.join(events)).at(-1)
      assert.deepStrictEqual(last, { _tag: "Ended", run, truncated: false })
    }).pipe(Effect.provide(world))
  )

  it.effect("reports at the end of its log whether the command printed more", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const runs = yield* TaskRuns
      yield* sandbox
      const endOf = Effect.fnUntraced(function* (id: RunId, from = OutputPosition.start) {
        const events = yield* Stream.runCollect(runs.log(scope, id, from))
        const last = events.at(-1)
        return last?._tag === "Ended" && last.truncated
      })
      const long = yield* ended(scope, yield* begin(scope, Step.Flood({ lines: 2000, length: 100 })))
      const short = yield* ended(scope, yield* begin(scope, print("short")))
      assert.deepStrictEqual([yield* endOf(long.id), yield* endOf(short.id)], [true, false])
      assert.isTrue(yield* endOf(long.id, new OutputPosition({ stdout: 1000, stderr: 0 })))
      yield* (yield* SandboxProvider).remove(name)
      assert.deepStrictEqual([yield* endOf(long.id), yield* endOf(short.id)], [true, false])
    }).pipe(Effect.provide(world))
  )

  it.effect("never starts if it is canceled before a worker takes it", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* sandbox
      const noWorkers = TaskRuns.layer.pipe(Layer.provide(World.crypto))
      const id = yield* Effect.gen(function* () {
        const id = yield* begin(scope, print("x"))
        yield* (yield* TaskRuns).cancel(scope, id)
        return id
      }).pipe(Effect.provide(noWorkers))
      yield* Effect.gen(function* () {
        yield* TestClock.adjust("1 minute")
        const provider = yield* SandboxProvider
        assert.strictEqual((yield* Effect.flip(provider.command(name, id as never)))._tag, "CommandNotFound")
      }).pipe(Effect.provide(useCases))
    }).pipe(Effect.provide(World.layer))
  )

  it.effect("is not changed by a cancellation after its end", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      yield* sandbox
      const run = yield* ended(scope, yield* begin(scope, print("x")))
      assert.deepStrictEqual(yield* (yield* TaskRuns).cancel(scope, run.id), run)
    }).pipe(Effect.provide(world))
  )

  it.effect("can be followed from before its start to its end", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const runs = yield* TaskRuns
      yield* sandbox
      const id = yield* begin(scope, sleep(5), print("one"), sleep(5), print("two"))
      const seen: Array<string> = []
      const reader = yield* Effect.forkChild(
        Stream.runForEach(runs.log(scope, id, OutputPosition.start), (event) =>
          Effect.sync(() => seen.push(event._tag === "Printed" ? event.output.text : event.run.status))
        )
      )
      yield* TestClock.adjust("6 seconds")
      assert.deepStrictEqual(seen, ["one"])
      yield* TestClock.adjust("6 seconds")
      yield* Fiber.join(reader)
      assert.deepStrictEqual(seen, ["one", "two", "COMPLETED"])
    }).pipe(Effect.provide(world))
  )

  it.effect("can be read from its record after its sandbox was removed", () =>
    Effect.gen(function* () {
      const scope = yield* given.scope
      const runs = yield* TaskRuns
      yield* sandbox
      const run = yield* ended(scope, yield* begin(scope, print("kept")))
      yield* (yield* SandboxProvider).remove(name)
      const events = yield* Stream.runCollect(runs.log(scope, run.id, OutputPosition.start))
      assert.deepStrictEqual(
        events.map((event) => (event._tag === "Printed" ? event.output.text : event.run.status)),
        ["kept", "COMPLETED"]
      )
    }).pipe(Effect.provide(world))
  )
})
