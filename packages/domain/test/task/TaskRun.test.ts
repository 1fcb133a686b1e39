import { AccountId } from "@castellan/domain/identity/Account.ts"
import { advance, duration, hasEnded, RunId, RunStatus, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Option } from "effect"

const start = DateTime.makeUnsafe("2026-01-01T00:00:00.000Z")
const later = DateTime.makeUnsafe("2026-01-01T00:00:05.000Z")

const run = (status: RunStatus) =>
  new TaskRun({
    id: RunId.make("run_1"),
    account: AccountId.make("00000000-0000-4000-8000-000000000001"),
    task: "run-sandbox-command",
    sandbox: null,
    input: null,
    status,
    attempt: 0,
    currentStep: null,
    logs: [],
    output: null,
    error: null,
    errorCode: null,
    createdAt: start,
    updatedAt: start,
    startedAt: null,
    finishedAt: null,
    version: 3
  })

const legal: Record<RunStatus, ReadonlyArray<RunStatus>> = {
  QUEUED: ["EXECUTING", "CANCELED", "FAILED"],
  DELAYED: ["QUEUED", "EXECUTING", "CANCELED", "FAILED"],
  EXECUTING: ["EXECUTING", "REATTEMPTING", "COMPLETED", "CANCELED", "FAILED", "TIMED_OUT"],
  REATTEMPTING: ["EXECUTING", "CANCELED", "FAILED"],
  COMPLETED: [],
  CANCELED: [],
  FAILED: [],
  TIMED_OUT: []
}

describe("A task run", () => {
  for (const from of RunStatus.literals) {
    for (const to of RunStatus.literals) {
      const may = legal[from].includes(to)
      it(`${may ? "can" : "can't"} change from ${from} to ${to}`, () => {
        assert.strictEqual(Option.isSome(advance(run(from), to, later)), may)
      })
    }
  }

  it("increases its version by one with every transition", () => {
    assert.strictEqual(Option.getOrThrow(advance(run("QUEUED"), "EXECUTING", later)).after.version, 4)
  })

  it("counts an attempt when it starts, and not when it continues", () => {
    const { after: begun } = Option.getOrThrow(advance(run("QUEUED"), "EXECUTING", later))
    assert.strictEqual(begun.attempt, 1)
    assert.strictEqual(Option.getOrThrow(advance(begun, "EXECUTING", later)).after.attempt, 1)
  })

  it("has a duration from its start to its end, or to now while it runs", () => {
    const { after: begun } = Option.getOrThrow(advance(run("QUEUED"), "EXECUTING", start))
    assert.strictEqual(duration(run("QUEUED"), later), 0)
    assert.strictEqual(duration(begun, later), 5000)
    const { after: ended } = Option.getOrThrow(advance(begun, "COMPLETED", later, { output: { exitCode: 0 } }))
    assert.strictEqual(duration(ended, DateTime.makeUnsafe("2026-01-02T00:00:00.000Z")), 5000)
    assert.isTrue(hasEnded(ended))
    assert.deepStrictEqual(ended.output, { exitCode: 0 })
  })
})
