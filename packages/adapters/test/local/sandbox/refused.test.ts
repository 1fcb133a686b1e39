import { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { existsSync, readdirSync, readlinkSync } from "node:fs"
import { createSandbox } from "../sandboxes.ts"
import { localProvider } from "../temporary.ts"

describe("A command that the host refuses to start", () => {
  it.live("ends a command with arguments that are too long, and runs a command of another sandbox", () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const [one, other] = [yield* createSandbox(), yield* createSandbox()]
      const spec = { command: "echo", cwd: null, env: {}, timeout: Duration.seconds(10) }
      const long = { ...spec, id: CommandId.make("long"), args: ["x".repeat(4 * 1024 * 1024)] }
      const [started] = yield* Effect.all(
        [provider.start(one, long), provider.start(other, { ...spec, id: CommandId.make("short"), args: ["hi"] })],
        { concurrency: 2 }
      )
      assert.strictEqual(started.end?.failure, "arguments_too_long")
      assert.strictEqual((yield* provider.wait(other, CommandId.make("short"))).end?.exitCode, 0)
    }).pipe(Effect.scoped, Effect.provide(localProvider({})))
  )
})

/** The processes whose working directory is in the sandbox's directory. */
const processesIn = (name: SandboxName) =>
  readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`).includes(name)
    } catch {
      return false
    }
  })

describe("A sandbox without isolation", () => {
  it.live("leaves no process behind when a sandbox without isolation is removed", () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const name = yield* createSandbox()
      const running = processesIn(name)
      assert.isNotEmpty(running)
      yield* provider.remove(name)
      assert.deepStrictEqual(
        running.filter((pid) => existsSync(`/proc/${pid}`)),
        []
      )
    }).pipe(Effect.scoped, Effect.provide(localProvider({ isolation: "none" })))
  )
})
