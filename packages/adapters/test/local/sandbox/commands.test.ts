import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { Command, CommandId } from "@castellan/domain/sandbox/Command.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Schedule, Stream } from "effect"
import { existsSync, readdirSync, readlinkSync } from "node:fs"
import { join } from "node:path"
import { createSandbox, withSandboxes, sh } from "../sandboxes.ts"
import { providerProcess } from "../process/providerProcesses.ts"
import { localProvider, temporaryDirectory } from "../temporary.ts"

const world = withSandboxes(localProvider())
const minute = Duration.minutes(1)

const ended = Effect.fnUntraced(function* (
  name: SandboxName,
  given: Partial<Command> & { readonly command: string },
  timeout = minute
) {
  const command = new Command({ args: [], cwd: null, env: {}, ...given })
  const { end, stderr, stdout } = yield* (yield* Sandboxes).run(name, command, timeout)
  return [end.by, end.failure, stdout + stderr] as const
})

const awaitFile = (file: string) =>
  Effect.repeat(
    Effect.sync(() => existsSync(file)),
    { until: (is) => is, schedule: Schedule.spaced("20 millis") }
  )

describe("A command of a local sandbox", () => {
  it.live(
    "ends with the reason if its interpreter is missing, its arguments are too long or its directory is closed",
    () =>
      Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const name = yield* createSandbox()
        const script = Stream.make(new TextEncoder().encode("#!/no/such/interpreter\n"))
        yield* provider.writeFile(name, SandboxPath.make("script"), script)
        yield* sh(name, "chmod +x script; mkdir closed; chmod 000 closed")
        assert.deepStrictEqual(yield* ended(name, { command: "./script" }), ["unstarted", "interpreter_not_found", ""])
        assert.deepStrictEqual(yield* ended(name, { command: "true", cwd: "closed" }), [
          "unstarted",
          "cwd_not_accessible",
          ""
        ])
        const args = Array.from({ length: 40 }, () => "x".repeat(100_000))
        assert.deepStrictEqual(yield* ended(name, { command: "true", args }), ["unstarted", "arguments_too_long", ""])
      }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("starts with no signal ignored or blocked", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      const { stdout } = yield* sh(name, "grep -E '^Sig(Ign|Blk)' /proc/self/status | tr -d '[:space:]'")
      assert.strictEqual(stdout, "SigBlk:0000000000000000SigIgn:0000000000000000")
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("reports exit codes and output that look like a failure to start as those of the program", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      for (const code of [1, 126, 127]) {
        const { end, stderr } = yield* sh(name, `echo "refused command_not_found" >&2; exit ${code}`)
        assert.deepStrictEqual([end.by, end.exitCode, stderr], ["exited", code, "refused command_not_found\n"])
      }
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  for (const isolation of ["none", "namespaces"] as const) {
    it.live(`has pipes without a path as its output streams, with isolation "${isolation}"`, () =>
      Effect.gen(function* () {
        const name = yield* createSandbox()
        const others = "readlink /proc/self/fd/* | grep -v -e '^/dev/null$' -e '^pipe:'"
        const { stdout } = yield* sh(name, `readlink /proc/$$/fd/1; readlink /proc/$$/fd/2; ${others}`)
        assert.match(stdout, /^pipe:\[\d+\]\npipe:\[\d+\]\n$/)
      }).pipe(Effect.scoped, Effect.provide(withSandboxes(localProvider({ isolation }))))
    )
  }

  it.live("is killed with its children even if they have no marks in their environment", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      const hidden = { command: "env", args: ["-i", "/bin/sh", "-c", "/bin/sleep 60; true"] }
      assert.deepStrictEqual(yield* ended(name, hidden, Duration.millis(300)), ["timedOut", undefined, ""])
    }).pipe(Effect.scoped, Effect.provide(world))
  )

  it.live("prints nothing about children that are killed with it", () =>
    Effect.gen(function* () {
      const name = yield* createSandbox()
      const nested = { command: "bash", args: ["-c", "sh -c 'sleep 60; true'; sleep 60; true"] }
      const ends = yield* Effect.all(
        Array.from({ length: 8 }, () => ended(name, nested, Duration.millis(300))),
        { concurrency: 4 }
      )
      for (const end of ends) assert.deepStrictEqual(end, ["timedOut", undefined, ""])
    }).pipe(Effect.scoped, Effect.provide(world))
  )
})

/** Whether the working directory of a process is in the directory, which may be removed. */
const isInUse = (directory: string) =>
  readdirSync("/proc").some((pid) => {
    try {
      return /^\d+$/.test(pid) && readlinkSync(`/proc/${pid}/cwd`).startsWith(directory)
    } catch {
      return false
    }
  })

describe("A command whose sandbox is removed at its deadline", () => {
  for (const isolation of ["none", "namespaces"] as const) {
    it.live(`leaves no process behind when its sandbox is removed at its deadline, with isolation "${isolation}"`, () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        yield* Effect.gen(function* () {
          const provider = yield* SandboxProvider
          for (const millis of [1, 20, 50, 100, 150, 200]) {
            const name = SandboxName.make(`sbx_${millis}`)
            yield* provider.create({ name, from: Option.none(), lifetime: minute })
            const spec = { id: CommandId.make("cmd"), command: "sleep", args: ["60"], cwd: null, env: {} }
            yield* provider.start(name, { ...spec, timeout: Duration.millis(millis) })
            yield* Effect.sleep(millis)
            yield* provider.remove(name)
          }
          const none = Effect.sync(() => !isInUse(join(directory, "sandboxes")) && !isInUse(join(directory, "trash")))
          yield* Effect.repeat(none, { until: (is) => is, schedule: Schedule.spaced("50 millis") })
        }).pipe(Effect.provide(LocalSandbox.layer({ directory, isolation })))
      }).pipe(Effect.scoped)
    )
  }
})

describe("A command whose server is stopped or killed", () => {
  for (const signal of ["SIGSTOP", "SIGKILL"] as const) {
    it.live(`ends at its deadline after its server got ${signal}, even if it stops every process that it can`, () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        const server = yield* providerProcess(directory)
        const name = SandboxName.make("sbx_deadline")
        const id = CommandId.make("cmd")
        yield* server.request({ do: "create", name, lifetime: 120_000 })
        const script = "echo up; (sleep 0.3; kill -s STOP -- -1) & sleep 100"
        yield* server.request({ do: "start", name, id, script, timeout: 1500 })
        server.child.kill(signal)
        yield* awaitFile(join(directory, "sandboxes", name, "commands", id, "exit"))
        server.child.kill("SIGCONT")
        const next = signal === "SIGSTOP" ? server : yield* providerProcess(directory)
        assert.strictEqual(yield* next.request<string>({ do: "wait", name, id }), "timedOut")
        assert.deepStrictEqual(yield* next.request<object>({ do: "sh", name, script: "echo well" }), {
          exitCode: 0,
          stdout: "well\n"
        })
        yield* next.request({ do: "remove", name })
      }).pipe(Effect.scoped)
    )
  }
})
