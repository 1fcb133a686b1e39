import { OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { print, withSandbox, commandSpec, readOutput, runCommand } from "./fixtures.ts"

export const output = (compile: Compile): Clauses<SandboxProvider> => ({
  "stdout and stderr are separate and keep every byte": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const text = "€uro 日本語 🦀\n"
        const result = yield* runCommand(
          name,
          compile(print(text), Step.Print({ text: "oops\n", to: "stderr" }), print("end"))
        )
        assert.strictEqual(result.stdout, `${text}end`)
        assert.strictEqual(result.stderr, "oops\n")
      })
    ),

  "output can be read again from any position": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const { id } = yield* runCommand(name, compile(print("0123456789"), Step.Print({ text: "abc", to: "stderr" })))
        assert.deepStrictEqual(yield* readOutput(name, id), { stdout: "0123456789", stderr: "abc" })
        const middle = new OutputPosition({ stdout: 4, stderr: 1 })
        assert.deepStrictEqual(yield* readOutput(name, id, middle), { stdout: "456789", stderr: "bc" })
      })
    ),

  "every chunk of output has the position after it": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* runCommand(name, compile(print("0123456789"), Step.Print({ text: "abc", to: "stderr" })))
        const pieces = yield* Stream.runCollect(provider.output(name, id, OutputPosition.start))
        assert.deepStrictEqual(pieces.at(-1)?.next, new OutputPosition({ stdout: 10, stderr: 3 }))
      })
    ),

  "reading a stream from a position beyond its end returns nothing": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const { id } = yield* runCommand(name, compile(print("out"), Step.Print({ text: "err", to: "stderr" })))
        assert.deepStrictEqual(yield* readOutput(name, id, OutputPosition.only("stderr")), {
          stdout: "",
          stderr: "err"
        })
      })
    ),

  "output can be read while its command runs, and ends when the command ends": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(print("first"), Step.Sleep({ millis: 1200 }), print("last")))
        yield* provider.start(name, spec)
        yield* Stream.runHead(provider.output(name, spec.id, OutputPosition.start))
        assert.isNull((yield* provider.command(name, spec.id)).end)
        assert.strictEqual((yield* readOutput(name, spec.id)).stdout, "firstlast")
        assert.isNotNull((yield* provider.command(name, spec.id)).end)
      })
    ),

  "output beyond the kept size is dropped and its command runs to its end": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const kept = provider.supports.outputKept
        const lines = Math.ceil((kept * 1.5) / 1024)
        const { end, id } = yield* runCommand(
          name,
          compile(Step.Flood({ lines, length: 1024 }), Step.Exit({ code: 7 }))
        )
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
