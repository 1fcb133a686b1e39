import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Effect, Stream } from "effect"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { print, unknownName, withSandbox, commandSpec, runCommand, readText, writeText, tagOf } from "./fixtures.ts"

export const commands = (compile: Compile): Clauses<SandboxProvider> => ({
  "operations on a command that was not started fail with CommandNotFound": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const id = CommandId.make("never")
        const asked: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
          provider.command(name, id),
          provider.wait(name, id),
          provider.kill(name, id),
          Stream.runDrain(provider.output(name, id, OutputPosition.start))
        ]
        for (const one of asked) assert.strictEqual(yield* tagOf(one), "CommandNotFound")
      })
    ),

  "forget deletes a command that has ended and does not affect one that runs": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* runCommand(name, compile(print("said")))
        const running = commandSpec(compile(Step.Sleep({ millis: 60_000 })))
        yield* provider.start(name, running)
        for (const one of [id, running.id, id, CommandId.make("never-started")]) yield* provider.forget(name, one)
        assert.strictEqual(yield* tagOf(provider.command(name, id)), "CommandNotFound")
        const output = Stream.runDrain(provider.output(name, id, OutputPosition.start))
        assert.strictEqual(yield* tagOf(output), "CommandNotFound")
        assert.isNull((yield* provider.command(name, running.id)).end)
        yield* provider.kill(name, running.id)
        yield* provider.forget(unknownName, id)
      })
    ),

  "starting a command twice runs it once": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(Step.Append({ path: "times", text: "x" }), Step.Sleep({ millis: 100 })))
        yield* Effect.all([provider.start(name, spec), provider.start(name, spec)], { concurrency: 2 })
        yield* provider.wait(name, spec.id)
        assert.isNotNull((yield* provider.start(name, spec)).end)
        yield* provider.wait(name, spec.id)
        assert.strictEqual(yield* readText(name, "times"), "x")
      })
    ),

  "arguments reach the program unchanged": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const args = ["$(id)", "a b", "'", '"', "`x`", ";", "&&", "*", "", "é\n€"]
        const { stdout } = yield* runCommand(name, { command: "echo", args })
        assert.strictEqual(stdout, `${args.join(" ")}\n`)
      })
    ),

  "a command ends with the exit code of its program": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        for (const code of [0, 3, 255]) {
          const { end } = yield* runCommand(name, compile(Step.Exit({ code })))
          assert.deepStrictEqual([end.by, end.exitCode], ["exited", code])
        }
      })
    ),

  "a command whose program cannot run ends as unstarted with the reason and prints nothing": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        yield* writeText(name, "plain/file", "not a program")
        const programs = {
          "no-such-program": "command_not_found",
          "ls -la": "command_not_found",
          "two\nlines": "command_not_found",
          "A=b": "command_not_found",
          "-x": "command_not_found",
          "./no/such": "command_not_found",
          "plain/file/below": "command_not_found",
          "./plain": "command_is_directory",
          "/": "command_is_directory",
          "plain/file": "command_not_executable"
        }
        const ends = yield* Effect.forEach(
          Object.keys(programs),
          (command) =>
            Effect.map(runCommand(name, { command, args: ["x"] }), ({ end, stderr, stdout }) => [
              command,
              end.by,
              end.failure,
              stdout + stderr
            ]),
          { concurrency: 10 }
        )
        assert.deepStrictEqual(
          ends,
          Object.entries(programs).map(([command, failure]) => [command, "unstarted", failure, ""])
        )
      })
    ),

  "a command whose working directory cannot be entered ends as unstarted with the reason and prints nothing": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        yield* writeText(name, "file", "")
        const directories = {
          "/no/such/directory": "cwd_not_found",
          nowhere: "cwd_not_found",
          file: "cwd_not_directory",
          "file/below": "cwd_not_found"
        }
        const ends = yield* Effect.forEach(
          Object.keys(directories),
          (cwd) =>
            Effect.map(runCommand(name, compile(print("x")), { cwd }), ({ end, stderr, stdout }) => [
              cwd,
              end.by,
              end.failure,
              stdout + stderr
            ]),
          { concurrency: 4 }
        )
        assert.deepStrictEqual(
          ends,
          Object.entries(directories).map(([cwd, failure]) => [cwd, "unstarted", failure, ""])
        )
      })
    ),

  "a command runs in its working directory, which is the home directory by default": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const home = (yield* runCommand(name, compile(Step.PrintVariable({ name: "HOME" })))).stdout
        const directory = (cwd: string | null) =>
          Effect.map(runCommand(name, compile(Step.PrintDirectory()), { cwd }), ({ stdout }) => stdout)
        assert.match(home, /^\//)
        assert.strictEqual(yield* directory(null), home)
        yield* writeText(name, "sub/file", "")
        assert.strictEqual(yield* directory("sub"), `${home}/sub`)
        assert.strictEqual(yield* directory("/"), "/")
      })
    ),

  "a command has its environment variables": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const env = { GREETING: "héllo 'world' $HOME" }
        const { stdout } = yield* runCommand(name, compile(Step.PrintVariable({ name: "GREETING" })), { env })
        assert.strictEqual(stdout, env.GREETING)
      })
    ),

  "a command ends with its program even if the program leaves processes behind": () =>
    withSandbox(
      Effect.fnUntraced(function* (name) {
        const { end, stdout } = yield* runCommand(
          name,
          compile(Step.Leave({ path: "left" }), print("done"), Step.Exit({ code: 0 }))
        )
        assert.deepStrictEqual([end.by, end.exitCode, stdout], ["exited", 0, "done"])
      })
    )
})
