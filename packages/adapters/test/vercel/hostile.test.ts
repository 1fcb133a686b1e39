/** Sandboxes at Vercel whose shell misbehaves. */
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import type { MemoryProcess } from "@castellan/testkit/fakes/sandbox/MemoryPrograms.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Stream } from "effect"
import { inMemory } from "./emulatedVercel.ts"

const path = SandboxPath.make("file")

/** The fault of the sandbox that an operation reports. Any other result fails the test. */
const faultsOf = (sh: (process: MemoryProcess) => Effect.Effect<number>) =>
  Effect.gen(function* () {
    const provider = yield* SandboxProvider
    const name = SandboxName.make("hostile")
    yield* provider.create({ name, from: Option.none(), lifetime: Duration.minutes(5) })
    const faultOf = <A, E>(asked: Effect.Effect<A, E>) =>
      Effect.match(asked, {
        onFailure: (error) => (error instanceof SandboxUnavailable ? error.fault : error),
        onSuccess: () => "none"
      })
    return yield* Effect.all(
      {
        read: faultOf(Stream.runDrain(provider.readFile(name, path))),
        write: faultOf(provider.writeFile(name, path, Stream.make(new Uint8Array(1)))),
        list: faultOf(provider.listFiles(name, path, { depth: 1, limit: 10 }))
      },
      { concurrency: 3 }
    )
  }).pipe(Effect.provide(inMemory({ silenceTimeout: Duration.millis(300), shell: { sh } })))

const print = ({ command }: MemoryProcess, text: string) =>
  Effect.sync(() => command.print("stdout", new TextEncoder().encode(text)))

describe("A hostile shell in a sandbox at Vercel", () => {
  it.live("fails a read, a write and a listing if it prints nothing", () =>
    Effect.gen(function* () {
      assert.deepStrictEqual(yield* faultsOf(() => Effect.never), {
        read: "no_answer",
        write: "no_answer",
        list: "no_answer"
      })
    })
  )

  it.live("fails a listing if it prints something else", () =>
    Effect.gen(function* () {
      const line = `${Buffer.from("y\n".repeat(3000)).toString("base64")}\n`
      for (const text of [line.repeat(5), `${Buffer.from("./a\0f").toString("base64")}\n= 0\n`]) {
        const { list } = yield* faultsOf((process) => Effect.as(print(process, text), 0))
        assert.strictEqual(list, "bad_answer")
      }
    })
  )
})
