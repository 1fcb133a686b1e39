import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { print, created, commandSpec, printed, ran } from "./fixtures.ts"

export const output = (compile: Compile): Clauses<SandboxProvider> => ({
  "the two streams of output are kept apart, to the byte": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const text = "€uro 日本語 🦀\n"
        const result = yield* ran(
          name,
          compile(print(text), Step.Print({ text: "oops\n", to: "stderr" }), print("end"))
        )
        assert.strictEqual(result.stdout, `${text}end`)
        assert.strictEqual(result.stderr, "oops\n")
      })
    ),

  "output can be read again, from any position": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const { id } = yield* ran(name, compile(print("0123456789"), Step.Print({ text: "abc", to: "stderr" })))
        assert.deepStrictEqual(yield* printed(name, id), { stdout: "0123456789", stderr: "abc" })
        const middle = new OutputPosition({ stdout: 4, stderr: 1 })
        assert.deepStrictEqual(yield* printed(name, id, middle), { stdout: "456789", stderr: "bc" })
      })
    ),

  "every piece of output tells where to go on": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* ran(name, compile(print("0123456789"), Step.Print({ text: "abc", to: "stderr" })))
        const pieces = yield* Stream.runCollect(provider.output(name, id, OutputPosition.start))
        assert.deepStrictEqual(pieces.at(-1)?.next, new OutputPosition({ stdout: 10, stderr: 3 }))
      })
    ),

  "a stream whose position lies beyond its end gives nothing": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const { id } = yield* ran(name, compile(print("out"), Step.Print({ text: "err", to: "stderr" })))
        assert.deepStrictEqual(yield* printed(name, id, OutputPosition.only("stderr")), { stdout: "", stderr: "err" })
      })
    ),

  "output can be read while its command still runs, and ends with it": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(print("first"), Step.Sleep({ millis: 1200 }), print("last")))
        yield* provider.start(name, spec)
        yield* Stream.runHead(provider.output(name, spec.id, OutputPosition.start))
        assert.isNull((yield* provider.command(name, spec.id)).end)
        assert.strictEqual((yield* printed(name, spec.id)).stdout, "firstlast")
        assert.isNotNull((yield* provider.command(name, spec.id)).end)
      })
    ),

  "output beyond what is kept is dropped, and its command goes on to its end": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const kept = provider.supports.outputKept
        const lines = Math.ceil((kept * 1.5) / 1024)
        const { end, id } = yield* ran(name, compile(Step.Flood({ lines, length: 1024 }), Step.Exit({ code: 7 })))
        assert.deepStrictEqual([end.by, end.exitCode], ["exited", 7])
        const size = yield* Stream.runFold(
          provider.output(name, id, OutputPosition.start),
          () => 0,
          (size, piece) => size + piece.bytes.length
        )
        assert.strictEqual(size, kept)
      })
    )
})
