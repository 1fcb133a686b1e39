import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Duration, Effect, Option, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import {
  path,
  unknown,
  named,
  specOf,
  created,
  commandSpec,
  ran,
  fileText,
  listed,
  everything,
  tagOf,
  somePort
} from "./fixtures.ts"

export const creation = (compile: Compile): Clauses<SandboxProvider> => ({
  "creating a name twice gives the first sandbox back, with its files": () =>
    named(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const first = yield* provider.create(specOf(name))
        yield* ran(name, compile(Step.Append({ path: "kept", text: "1" })))
        assert.deepStrictEqual(yield* provider.create(specOf(name)), first)
        assert.strictEqual(yield* fileText(name, "kept"), "1")
      })
    ),

  "creating one name many times at once makes one sandbox": () =>
    named(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const all = yield* Effect.all(
          Array.from({ length: 8 }, () => provider.create(specOf(name))),
          { concurrency: "unbounded" }
        )
        for (const one of all) assert.deepStrictEqual(one, all[0])
      })
    ),

  "a sandbox that stopped is given back by create as it is, and not woken": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        assert.strictEqual((yield* provider.create(specOf(name))).status, "stopped")
      })
    ),

  "find gives the sandbox of a name, and none where there is none": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "running")
        assert.isTrue(Option.isNone(yield* provider.find(unknown)))
      })
    ),

  "findMany gives those of the names that exist": () =>
    created((one) =>
      created(
        Effect.fnUntraced(function* (two) {
          const provider = yield* SandboxProvider
          const found = yield* provider.findMany([one, unknown, two])
          assert.deepStrictEqual(new Set(found.map(({ name }) => name)), new Set([one, two]))
          assert.deepStrictEqual(yield* provider.findMany([]), [])
        })
      )
    ),

  "remove forgets the sandbox and its files, and may be repeated": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* ran(name, compile(Step.Append({ path: "gone", text: "x" })))
        yield* provider.remove(name)
        yield* provider.remove(name)
        assert.isTrue(Option.isNone(yield* provider.find(name)))
        yield* provider.create(specOf(name))
        assert.deepStrictEqual(yield* listed(name, ".", everything), { files: [], next: null })
      })
    ),

  "an unknown sandbox is gone, whatever is asked of it": () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const id = CommandId.make("c")
      const asked: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
        provider.resume(unknown, Duration.minutes(1)),
        provider.extend(unknown, Duration.minutes(1)),
        provider.snapshot(unknown),
        provider.start(unknown, commandSpec({ command: "echo", args: [] })),
        provider.command(unknown, id),
        provider.wait(unknown, id),
        Stream.runDrain(provider.output(unknown, id, OutputPosition.start)),
        provider.kill(unknown, id),
        Stream.runDrain(provider.readFile(unknown, path("x"))),
        provider.writeFile(unknown, path("x"), Stream.empty),
        provider.listFiles(unknown, path("."), { depth: 1, limit: 1 }),
        Effect.scoped(provider.connect(unknown, somePort()))
      ]
      for (const one of asked) assert.strictEqual(yield* tagOf(one), "SandboxGone")
    }),

  "a sandbox that was to reach its registry has npm": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const asked = Effect.map(ran(name, { command: "npm", args: ["--version"] }), ({ end, stdout }) => {
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
