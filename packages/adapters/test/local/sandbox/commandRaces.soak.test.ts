import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { CommandId } from "@castellan/domain/sandbox/Command.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { createSandbox, withSandboxes } from "../sandboxes.ts"
import { localProvider } from "../temporary.ts"

/** How often each race runs, and the maximum delay of the second operation in milliseconds. */
const times = 200
const within = 100

const programs = [
  { command: "sleep", args: ["60"] },
  { command: "no-such-program", args: [] }
]

describe("A command whose sandbox is stopped, snapshotted or removed while it starts", () => {
  for (const way of ["stop", "snapshot", "remove"] as const) {
    it.live(
      `never counts as a command that ended by itself when its sandbox races with ${way}`,
      () =>
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          const sandboxes = yield* Sandboxes
          const once = Effect.fnUntraced(function* (index: number) {
            const name = yield* createSandbox()
            const id = CommandId.make("c")
            const program = programs[index % programs.length]!
            const outcome = Effect.gen(function* () {
              yield* provider.start(name, { ...program, id, cwd: null, env: {}, timeout: Duration.minutes(1) })
              const end = yield* sandboxes.awaitEnd(name, id)
              const { stderr, stdout } = yield* sandboxes.result(name, id, end)
              assert.strictEqual(stdout + stderr, "", `${way} after ${index} of ${times}`)
              return end.failure ?? end.by
            }).pipe(Effect.catch(({ _tag }) => Effect.succeed(_tag)))
            const after = Effect.sleep(Math.floor((index * within) / times))
            const [result] = yield* Effect.all([outcome, Effect.andThen(after, provider[way](name))], {
              concurrency: 2
            })
            return result
          }, Effect.scoped)
          const outcomes = yield* Effect.forEach(
            Array.from({ length: times }, (_, index) => index),
            once,
            {
              concurrency: 4
            }
          )
          const expected = ["lost", "command_not_found", "SandboxNotRunning", "SandboxGone", "CommandNotFound"]
          // A start fails as unavailable if files disappear while it runs.
          if (way === "remove") expected.push("SandboxUnavailable")
          assert.deepStrictEqual(
            [...new Set(outcomes)].filter((one) => !expected.includes(one)),
            []
          )
        }).pipe(Effect.provide(withSandboxes(localProvider()))),
      600_000
    )
  }
})
