import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import * as MemorySandbox from "../src/fakes/sandbox/MemorySandbox.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Stream } from "effect"
import { TestClock } from "effect/testing"

const name = SandboxName.make("sandbox")

/** The exit code and the output of a program in a new sandbox. */
const ran = Effect.fnUntraced(function* (command: string, args: ReadonlyArray<string>) {
  const provider = yield* SandboxProvider
  const id = CommandId.make("c")
  yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
  yield* provider.start(name, { id, command, args, cwd: null, env: {}, timeout: Duration.minutes(1) })
  yield* TestClock.adjust("30 seconds")
  const { end } = yield* provider.wait(name, id)
  const pieces = provider.output(name, id, OutputPosition.start).pipe(Stream.map(({ bytes }) => bytes))
  return [end?.failure ?? end?.exitCode, yield* pieces.pipe(Stream.decodeText(), Stream.mkString)]
})

const layer = MemorySandbox.layerWith({
  programs: {
    npm: ({ command, spec }) =>
      Effect.gen(function* () {
        yield* Effect.sleep("20 seconds")
        command.print("stdout", Buffer.from(`${spec.args.join(" ")}: 3 passed`))
        return 0
      }),
    echo: () => Effect.succeed(9)
  }
})

describe("A sandbox in memory", () => {
  it.effect("runs the programs that a test adds, on the test clock", () =>
    Effect.map(ran("npm", ["test"]), (said) => assert.deepStrictEqual(said, [0, "test: 3 passed"])).pipe(
      Effect.provide(layer)
    )
  )

  it.effect("prefers added programs to built-in ones of the same name, and keeps the others", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* Effect.provide(ran("echo", []), layer), [9, ""])
      assert.deepStrictEqual(yield* Effect.provide(ran("true", []), layer), [0, ""])
    })
  )

  it.effect("reports an unknown program as not found", () =>
    Effect.map(ran("constructor", []), (said) => assert.deepStrictEqual(said, ["command_not_found", ""])).pipe(
      Effect.provide(layer)
    )
  )
})
