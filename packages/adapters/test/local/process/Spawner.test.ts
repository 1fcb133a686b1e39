import { run } from "../../../src/local/process/Spawner.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { execFileSync } from "node:child_process"
import { readdirSync, readFileSync } from "node:fs"

const runTrue = run("test", ["true"], { cwd: "/", user: false })

const children = () =>
  readdirSync("/proc/self/task").flatMap((task) =>
    readFileSync(`/proc/self/task/${task}/children`, "utf8").split(" ").filter(Boolean)
  )

const spawner = () =>
  children().find((pid) => readFileSync(`/proc/${pid}/cmdline`, "utf8").includes("spawner-process"))!

/** Sets the soft limit of open descriptors until the scope closes. Open descriptors stay. */
const withDescriptorLimit = (pid: string, limit: string) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const before = /^Max open files\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/limits`, "utf8"))![1]!
      execFileSync("prlimit", ["--pid", pid, `--nofile=${limit}:`])
      return before
    }),
    (before) => Effect.sync(() => execFileSync("prlimit", ["--pid", pid, `--nofile=${before}:`]))
  )

describe("The spawner", () => {
  it.live("fails with a retryable error while it has no descriptors for a program, and works again after that", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* runTrue).code, 0)
      yield* Effect.gen(function* () {
        yield* withDescriptorLimit(spawner(), "3")
        const failure = yield* Effect.flip(runTrue)
        assert.deepStrictEqual([failure._tag, failure.retryable], ["SandboxUnavailable", true])
      }).pipe(Effect.scoped)
      assert.strictEqual((yield* runTrue).code, 0)
    })
  )

  it.live("reports a program that does not exist as its result", () =>
    Effect.gen(function* () {
      const { code, errno } = yield* run("test", ["/no-such-program"], { cwd: "/", user: false })
      assert.deepStrictEqual([code, errno], [127, "ENOENT"])
    })
  )
})
