import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { type CommandSpec, SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Duration, Effect, Result, Schedule, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { print, withSandbox, commandSpec, readOutput, runCommand, listFiles } from "./fixtures.ts"

type Race = <A, E, B, F>(
  start: Effect.Effect<A, E>,
  other: Effect.Effect<B, F>
) => Effect.Effect<readonly [A, B], E | F>

/** When another operation races with the start of a command: at once, a little later, after its return, or a little after that. */
const races: ReadonlyArray<Race> = [
  (start, other) => Effect.all([start, other], { concurrency: 2 }),
  (start, other) => Effect.all([start, Effect.andThen(Effect.sleep("5 millis"), other)], { concurrency: 2 }),
  (start, other) => Effect.all([start, other]),
  (start, other) => Effect.all([start, Effect.andThen(Effect.sleep("10 millis"), other)])
]

/** The operations that may end a sandbox while its commands run. */
const terminations: Readonly<
  Record<string, (provider: SandboxProvider["Service"], name: SandboxName) => Effect.Effect<unknown, unknown>>
> = {
  stop: (provider, name) => provider.stop(name),
  remove: (provider, name) => provider.remove(name),
  snapshot: (provider, name) => Effect.flatMap(provider.snapshot(name), ({ id }) => provider.removeSnapshot(id))
}

/** The allowed outcomes of a command whose sandbox ends during its start: an end, or the tag of an error. */
const allowedOutcomes: Readonly<Record<string, ReadonlyArray<string>>> = {
  stop: ["lost", "SandboxNotRunning"],
  // A provider may stop a sandbox before it removes it.
  remove: ["CommandNotFound", "SandboxGone", "SandboxNotRunning"],
  snapshot: ["lost", "SandboxNotRunning", "killed"]
}

/** How a command ends, or the tag of the error that its start or wait fails with. */
const observeOutcome = Effect.fnUntraced(function* (
  name: SandboxName,
  spec: CommandSpec,
  started: Result.Result<unknown, { readonly _tag: string }>,
  way: string
) {
  const provider = yield* SandboxProvider
  if (Result.isFailure(started)) return started.failure._tag
  // The source of a snapshot may keep running.
  if (way === "snapshot" && !provider.supports.snapshotStops) yield* provider.kill(name, spec.id)
  return yield* provider.wait(name, spec.id).pipe(
    Effect.map(({ end }) => end?.by),
    Effect.catch(({ _tag }) => Effect.succeed(_tag))
  )
})

export const termination = (compile: Compile): Clauses<SandboxProvider> => ({
  "a command is killed at its deadline": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const late = compile(print("early"), Step.Sleep({ millis: 20_000 }), print("late"))
        const { end, stdout } = yield* runCommand(name, late, { timeout: Duration.millis(1200) })
        assert.deepStrictEqual([end.by, end.exitCode, stdout], ["timedOut", 137, "early"])
      })
    ),

  "kill ends a command and every process that it started": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(Step.Leave({ path: "alive" }), print("up"), Step.Sleep({ millis: 20_000 })))
        yield* provider.start(name, spec)
        yield* Stream.runHead(provider.output(name, spec.id, OutputPosition.start))
        yield* provider.kill(name, spec.id)
        const { end } = yield* provider.wait(name, spec.id)
        assert.deepStrictEqual([end?.by, end?.exitCode], ["killed", 137])
        const size = Effect.map(listFiles(name, "."), ({ files }) => files[0]?.size)
        const before = yield* size
        yield* Effect.sleep("150 millis")
        assert.strictEqual(yield* size, before)
      })
    ),

  "kill does not change a command that has ended": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* runCommand(name, compile(Step.Exit({ code: 5 })))
        yield* provider.kill(name, id)
        const { end } = yield* provider.command(name, id)
        assert.deepStrictEqual([end?.by, end?.exitCode], ["exited", 5])
      })
    ),

  "a command whose sandbox is stopped ends as lost and keeps its output": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(print("before"), Step.Sleep({ millis: 20_000 })))
        yield* provider.start(name, spec)
        yield* Stream.runHead(provider.output(name, spec.id, OutputPosition.start))
        yield* provider.stop(name)
        const { end } = yield* provider.wait(name, spec.id)
        assert.strictEqual(end?.by, "lost")
        assert.strictEqual((yield* readOutput(name, spec.id)).stdout, "before")
      })
    ),

  "a command whose sandbox stops, is removed or is snapshotted during its start never reports an exit of its own": () =>
    Effect.forEach(
      Object.entries(terminations).flatMap(([way, ending]) => races.map((moment) => ({ way, ending, moment }))),
      ({ ending, moment, way }, index) =>
        withSandbox(
          Effect.fnUntraced(function* (name) {
            const provider = yield* SandboxProvider
            const spec = commandSpec(compile(print("up"), Step.Sleep({ millis: 20_000 })))
            const [started] = yield* moment(Effect.result(provider.start(name, spec)), ending(provider, name))
            const outcome = yield* observeOutcome(name, spec, started, way)
            const where = `${way}, moment ${index % races.length}: ${outcome}`
            assert.isTrue(allowedOutcomes[way]!.includes(outcome ?? "runs"), where)
            if (outcome !== "lost" && outcome !== "killed") return
            const { stderr, stdout } = yield* readOutput(name, spec.id)
            assert.strictEqual(stderr, "", where)
            assert.include(["", "up"], stdout, where)
          })
        ),
      { concurrency: 6, discard: true }
    ),

  "a command that is killed during its start ends as killed and has no effect": () =>
    Effect.forEach(
      races,
      (moment) =>
        withSandbox(
          Effect.fnUntraced(function* (name) {
            const provider = yield* SandboxProvider
            const spec = commandSpec(compile(Step.Append({ path: "ran", text: "x" }), Step.Sleep({ millis: 20_000 })))
            const kill = Effect.retry(provider.kill(name, spec.id), {
              while: ({ _tag }) => _tag === "CommandNotFound",
              schedule: Schedule.spaced("2 millis")
            })
            yield* moment(provider.start(name, spec), kill)
            const { end } = yield* provider.wait(name, spec.id)
            assert.strictEqual(end?.by, "killed")
            assert.deepStrictEqual(yield* readOutput(name, spec.id), { stdout: "", stderr: "" })
            assert.strictEqual((yield* provider.start(name, spec)).end?.by, "killed")
          })
        ),
      { concurrency: races.length, discard: true }
    ),

  "a command whose deadline passes during its start ends as timed out, with no error output": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        for (const millis of [1, 10, 50]) {
          const late = compile(print("up"), Step.Sleep({ millis: 20_000 }))
          const { end, stderr, stdout } = yield* runCommand(name, late, { timeout: Duration.millis(millis) })
          assert.deepStrictEqual([end.by, stderr], ["timedOut", ""], `${millis} ms`)
          assert.include(["", "up"], stdout)
        }
      })
    )
})
