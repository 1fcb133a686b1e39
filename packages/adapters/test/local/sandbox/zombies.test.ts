import { isAlive, findRunning } from "../../../src/local/process/processes.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { zombie } from "../../process/zombie.ts"

describe("A process of a sandbox", () => {
  it.live("counts as ended once it is a zombie that its parent does not reap", () =>
    Effect.gen(function* () {
      const pid = yield* zombie("unshare")
      assert.isUndefined(findRunning(pid, "unshare"))
    }).pipe(Effect.scoped)
  )

  it.live("is told apart from another program that got its number", () =>
    Effect.gen(function* () {
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn("sleep", ["600"])),
        (child) => Effect.sync(() => void child.kill("SIGKILL"))
      )
      yield* Effect.promise(() => once(child, "spawn"))
      assert.isUndefined(findRunning(child.pid!, "unshare"))
      const mark = findRunning(child.pid!, "sleep")!
      assert.isTrue(isAlive(mark))
      assert.isFalse(isAlive({ ...mark, startTime: "1" }))
    }).pipe(Effect.scoped)
  )
})
