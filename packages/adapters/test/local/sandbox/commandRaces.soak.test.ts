import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { CommandId } from "@castellan/domain/sandbox/Command.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { created, over } from "../inside.ts"
import { local } from "../temporary.ts"

/** How often each race is run, and the most milliseconds after the start at which the other side comes. */
const times = 200
const within = 100

const programs = [
  { command: "sleep", args: ["60"] },
  { command: "no-such-program", args: [] }
]

describe("A command whose sandbox stops, is snapshotted or removed at any moment of its start", () => {
  for (const way of ["stop", "snapshot", "remove"] as const) {
    it.live(
      `is never reported as one that ended by itself: ${way}`,
      () =>
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          const sandboxes = yield* Sandboxes
          const once = Effect.fnUntraced(function* (index: number) {
            const name = yield* created()
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
            const [seen] = yield* Effect.all([outcome, Effect.andThen(after, provider[way](name))], { concurrency: 2 })
            return seen
          }, Effect.scoped)
          const outcomes = yield* Effect.forEach(
            Array.from({ length: times }, (_, index) => index),
            once,
            {
              concurrency: 4
            }
          )
          const expected = ["lost", "command_not_found", "SandboxNotRunning", "SandboxGone", "CommandNotFound"]
          // A start that finds files missing half-way is the provider's failure, and is reported as that.
          if (way === "remove") expected.push("SandboxUnavailable")
          assert.deepStrictEqual(
            [...new Set(outcomes)].filter((one) => !expected.includes(one)),
            []
          )
        }).pipe(Effect.provide(over(local()))),
      600_000
    )
  }
})
