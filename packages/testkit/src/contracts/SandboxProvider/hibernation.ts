import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { DateTime, Duration, Effect, Option, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { print, path, unknownName, specOf, withSandbox, commandSpec, runCommand, readText, tagOf } from "./fixtures.ts"

export const hibernation = (compile: Compile): Clauses<SandboxProvider> => ({
  "find and findMany do not resume a stopped sandbox": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        for (let look = 0; look < 2; look++) {
          assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
          assert.strictEqual((yield* provider.findMany([name]))[0]?.status, "stopped")
        }
      })
    ),

  "stop ends the sandbox's run and keeps its files for resume": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* runCommand(name, compile(Step.Append({ path: "kept", text: "here" })))
        yield* provider.stop(name)
        const resumed = yield* provider.resume(name, Duration.minutes(9))
        assert.strictEqual(resumed.status, "running")
        assert.isAbove(resumed.expiresAt.epochMilliseconds, (yield* DateTime.now).epochMilliseconds + 8 * 60_000)
        assert.strictEqual(yield* readText(name, "kept"), "here")
        assert.strictEqual((yield* runCommand(name, compile(print("again")))).stdout, "again")
      })
    ),

  "resume does not change a running sandbox": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const before = Option.getOrThrow(yield* provider.find(name))
        assert.deepStrictEqual(yield* provider.resume(name, Duration.hours(1)), before)
      })
    ),

  "each run of a sandbox has its own incarnation, which every operation reports": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const readIncarnation = Effect.fnUntraced(function* () {
          const { incarnation } = Option.getOrThrow(yield* provider.find(name))
          const [one] = yield* provider.findMany([name])
          const made = yield* provider.create(specOf(name))
          for (const other of [one!, made]) assert.strictEqual(other.incarnation, incarnation)
          return incarnation
        })
        const first = yield* readIncarnation()
        assert.notStrictEqual(first, "")
        assert.strictEqual((yield* provider.extend(name, Duration.minutes(1))).incarnation, first)
        assert.strictEqual((yield* provider.resume(name, Duration.minutes(1))).incarnation, first)
        yield* provider.stop(name)
        assert.strictEqual(yield* readIncarnation(), first)
        const second = (yield* provider.resume(name, Duration.minutes(5))).incarnation
        assert.strictEqual(yield* readIncarnation(), second)
        yield* provider.remove(name)
        const third = (yield* provider.create(specOf(name))).incarnation
        assert.strictEqual(yield* readIncarnation(), third)
        assert.strictEqual(new Set([first, second, third]).size, 3)
      })
    ),

  "a stop for one incarnation never stops a later one": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const first = Option.getOrThrow(yield* provider.find(name)).incarnation
        yield* provider.stop(name, { incarnation: first })
        yield* provider.stop(name, { incarnation: first })
        yield* provider.stop(unknownName, { incarnation: first })
        assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
        const second = yield* provider.resume(name, Duration.minutes(5))
        yield* provider.stop(name, { incarnation: first })
        assert.deepStrictEqual(Option.getOrThrow(yield* provider.find(name)), second)
        yield* provider.stop(name, { incarnation: second.incarnation })
        assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
      })
    ),

  "a stop for the previous incarnation that races with resume does not stop the new one": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        for (let round = 0; round < 3; round++) {
          const { incarnation } = Option.getOrThrow(yield* provider.find(name))
          yield* provider.stop(name)
          const stop = provider.stop(name, { incarnation })
          const [, resumed] = yield* Effect.all([stop, provider.resume(name, Duration.minutes(5)), stop, stop], {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(Option.getOrThrow(yield* provider.find(name)), resumed)
          assert.strictEqual(resumed.status, "running")
        }
      })
    ),

  "stop succeeds for a sandbox that is stopped or does not exist": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        yield* provider.stop(name)
        yield* provider.stop(unknownName)
        assert.isTrue(Option.isNone(yield* provider.find(unknownName)))
      })
    ),

  "operations that need a running sandbox fail with SandboxNotRunning on a stopped one": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        const asked: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
          provider.extend(name, Duration.minutes(1)),
          provider.start(name, commandSpec({ command: "echo", args: [] })),
          Stream.runDrain(provider.readFile(name, path("x"))),
          provider.writeFile(name, path("x"), Stream.empty),
          provider.listFiles(name, path("."), { depth: 1, limit: 1 })
        ]
        for (const one of asked) assert.strictEqual(yield* tagOf(one), "SandboxNotRunning")
      })
    )
})
