import { GuestScripts } from "../../../src/app/guest/GuestScripts.ts"
import { SandboxPath } from "../../../src/sandbox/SandboxFile.ts"
import { SandboxName } from "../../../src/sandbox/SandboxName.ts"
import { SandboxProvider } from "../../../src/sandbox/SandboxProvider.ts"
import * as MemorySandbox from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Layer, Logger, Option, Stream } from "effect"
import { SecureRandom } from "effect/crypto"

/** Lists the files of an app whose `node` always prints this text. */
const listedFrom = (printed: string) =>
  Effect.gen(function* () {
    const name = SandboxName.make("app")
    const provider = yield* SandboxProvider
    yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
    yield* provider.writeFile(name, SandboxPath.make("app/package.json"), Stream.make(new Uint8Array()))
    return yield* (yield* GuestScripts).list(name, { contents: true })
  }).pipe(
    Effect.provide(
      GuestScripts.layer.pipe(
        Layer.provideMerge(
          MemorySandbox.layerWith({
            programs: {
              node: ({ command }) =>
                Effect.sync(() => {
                  command.print("stdout", new TextEncoder().encode(printed))
                  return 0
                })
            }
          })
        ),
        Layer.provide(SecureRandom.layerWebCrypto)
      )
    ),
    Effect.provide(Logger.layer([]))
  )

describe("GuestScripts.list", () => {
  it.effect("parses the lines that the guest script prints", () =>
    Effect.gen(function* () {
      const lines = [{ next: "b" }, { file: "a", text: "1" }, { file: "b" }, { skipped: { path: "b", reason: "why" } }]
      assert.deepStrictEqual(yield* listedFrom(lines.map((line) => `${JSON.stringify(line)}\n`).join("")), {
        files: ["a", "b"],
        contents: { a: "1" },
        skipped: [{ path: "b", reason: "why" }],
        next: "b"
      })
    })
  )

  it.effect("rejects output that is malformed or too long", () =>
    Effect.gen(function* () {
      const answers = ['{"file":1}\n', "{\n", '{"file":"cut', "\n", "[]\n", "x".repeat(60_000), "\n".repeat(60_000)]
      for (const answer of answers) {
        assert.strictEqual((yield* Effect.flip(listedFrom(answer)))._tag, "GuestScriptFailed", answer.slice(0, 20))
      }
    })
  )
})
