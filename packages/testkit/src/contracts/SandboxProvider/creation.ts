import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Duration, Effect, Option, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import {
  path,
  unknownName,
  withName,
  specOf,
  withSandbox,
  commandSpec,
  runCommand,
  readText,
  listFiles,
  allLevels,
  tagOf,
  randomPort
} from "./fixtures.ts"

export const creation = (compile: Compile): Clauses<SandboxProvider> => ({
  "creating a name twice returns the first sandbox with its files": () =>
    withName(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const first = yield* provider.create(specOf(name))
        yield* runCommand(name, compile(Step.Append({ path: "kept", text: "1" })))
        assert.deepStrictEqual(yield* provider.create(specOf(name)), first)
        assert.strictEqual(yield* readText(name, "kept"), "1")
      })
    ),

  "concurrent creates of one name make one sandbox": () =>
    withName(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const all = yield* Effect.all(
          Array.from({ length: 8 }, () => provider.create(specOf(name))),
          { concurrency: "unbounded" }
        )
        for (const one of all) assert.deepStrictEqual(one, all[0])
      })
    ),

  "create returns a stopped sandbox without resuming it": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        assert.strictEqual((yield* provider.create(specOf(name))).status, "stopped")
      })
    ),

  "find returns the sandbox with a name, or none": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "running")
        assert.isTrue(Option.isNone(yield* provider.find(unknownName)))
      })
    ),

  "findMany returns the sandboxes that exist": () =>
    withSandbox((one) =>
      withSandbox(
        Effect.fnUntraced(function* (two) {
          const provider = yield* SandboxProvider
          const found = yield* provider.findMany([one, unknownName, two])
          assert.deepStrictEqual(new Set(found.map(({ name }) => name)), new Set([one, two]))
          assert.deepStrictEqual(yield* provider.findMany([]), [])
        })
      )
    ),

  "remove deletes the sandbox with its files, and can be repeated": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* runCommand(name, compile(Step.Append({ path: "gone", text: "x" })))
        yield* provider.remove(name)
        yield* provider.remove(name)
        assert.isTrue(Option.isNone(yield* provider.find(name)))
        yield* provider.create(specOf(name))
        assert.deepStrictEqual(yield* listFiles(name, ".", allLevels), { files: [], next: null })
      })
    ),

  "operations on an unknown sandbox fail with SandboxGone": () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const id = CommandId.make("c")
      const asked: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
        provider.resume(unknownName, Duration.minutes(1)),
        provider.extend(unknownName, Duration.minutes(1)),
        provider.snapshot(unknownName),
        provider.start(unknownName, commandSpec({ command: "echo", args: [] })),
        provider.command(unknownName, id),
        provider.wait(unknownName, id),
        Stream.runDrain(provider.output(unknownName, id, OutputPosition.start)),
        provider.kill(unknownName, id),
        Stream.runDrain(provider.readFile(unknownName, path("x"))),
        provider.writeFile(unknownName, path("x"), Stream.empty),
        provider.listFiles(unknownName, path("."), { depth: 1, limit: 1 }),
        Effect.scoped(provider.connect(unknownName, randomPort()))
      ]
      for (const one of asked) assert.strictEqual(yield* tagOf(one), "SandboxGone")
    }),

  "a sandbox with access to the registry has npm": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const asked = Effect.map(runCommand(name, { command: "npm", args: ["--version"] }), ({ end, stdout }) => {
          assert.deepStrictEqual([end.exitCode, /^\d+\.\d+\.\d+\n$/.test(stdout)], [0, true])
        })
        yield* asked
        yield* provider.stop(name)
        yield* provider.resume(name, Duration.minutes(5))
        yield* asked
      }),
      { registry: true }
    )
})
