import { isAlive, findRunning } from "../../../src/local/process/processes.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { zombie } from "../../process/zombie.ts"

describe("The identity of a process", () => {
  it.live("counts a zombie that its parent does not reap as ended", () =>
    Effect.gen(function* () {
      const pid = yield* zombie("unshare")
      assert.isUndefined(findRunning(pid, "unshare"))
    }).pipe(Effect.scoped)
  )

  it.live("distinguishes a process from a later one with the same number", () =>
    Effect.gen(function* () {
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sleep", ["600"])),
        (child) => Effect.sync(() => void child.kill("SIGKILL"))
      )
      yield* Effect.promise(() => once(child, "spawn"))
      assert.isUndefined(findRunning(child.pid!, "unshare"))
      const identity = findRunning(child.pid!, "sleep")!
      assert.isTrue(isAlive(identity))
      assert.isFalse(isAlive({ ...identity, startTime: "1" }))
    }).pipe(Effect.scoped)
  )
})
