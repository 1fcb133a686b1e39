import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, Stream } from "effect"
import { createSandbox, withSandboxes, sh } from "../sandboxes.ts"
import { localProvider } from "../temporary.ts"

const world = withSandboxes(localProvider())

describe("A local sandbox whose processes are killed from inside", () => {
  it.live("keeps a sandbox running and isolated when a program inside kills every process that it can", () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const name = yield* createSandbox()
      for (const signal of ["KILL", "TERM", "STOP"]) {
        yield* sh(name, `kill -s ${signal} -- -1; kill -s ${signal} 1`)
        const { end, stderr, stdout } = yield* sh(name, "id -u; id -un; grep CapEff /proc/self/status | tr -d '\\t '")
        assert.deepStrictEqual([end.by, end.exitCode, stderr], ["exited", 0, ""], signal)
        assert.strictEqual(stdout, "1000\nuser\nCapEff:0000000000000000\n")
      }
      yield* provider.writeFile(name, SandboxPath.make("file"), Stream.make(new TextEncoder().encode("x")))
      for (const attempt of [
        "readlink /proc/1/fd/8",
        "head -c 1 /proc/1/fd/9",
        "unshare -Ur true",
        "nsenter --user=/proc/1/fd/8 true"
      ]) {
        assert.notStrictEqual((yield* sh(name, attempt)).end.exitCode, 0, attempt)
      }
      assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "running")
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})
