import { monotonicClock } from "@castellan/adapters/tasks/TaskQueue.ts"
import { assert, describe, it, vi } from "@effect/vitest"

describe("The clock of the task queue", () => {
  it("is not affected when the system's clock is set back by 26 days", () => {
    const before = monotonicClock.now()
    const stepped = vi.spyOn(Date, "now").mockReturnValue(Date.now() - 26 * 24 * 60 * 60 * 1000)
    try {
      const after = monotonicClock.now()
      assert.isAtLeast(after, before)
      assert.isBelow(after - before, 60_000)
    } finally {
      stepped.mockRestore()
    }
  })

  it("waits the longest possible time where a wait exceeds Node's timers", () => {
    const timer = vi.spyOn(globalThis, "setTimeout")
    const interval = vi.spyOn(globalThis, "setInterval")
    try {
      monotonicClock.clearTimeout(monotonicClock.setTimeout(() => undefined, 2 ** 31))
      monotonicClock.clearInterval(monotonicClock.setInterval(() => undefined, 2 ** 40))
      assert.deepStrictEqual(
        [timer, interval].map(({ mock }) => mock.calls.at(-1)?.[1]),
        [2 ** 31 - 1, 2 ** 31 - 1]
      )
    } finally {
      timer.mockRestore()
      interval.mockRestore()
    }
  })
})
