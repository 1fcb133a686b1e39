import { Command, CommandEnd, OutputPosition, StartFailure } from "@castellan/domain/sandbox/Command.ts"
import {
  CommandRunInput,
  commandOf,
  defaultTimeout,
  outcomeOf,
  sandboxLossError,
  outputOf,
  storedOutput
} from "@castellan/domain/task/CommandRun.ts"
import { AccountId } from "@castellan/domain/identity/Account.ts"
import { queued, RunId, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Duration, Option, Result, Schema } from "effect"

const at = DateTime.makeUnsafe(1_700_000_000_123)

const runWith = (output: Schema.Json) =>
  new TaskRun({
    ...queued({
      id: RunId.make("run_1"),
      account: AccountId.make("00000000-0000-4000-8000-000000000001"),
      task: "run-sandbox-command",
      input: null,
      sandbox: null,
      at
    }),
    output
  })

const accepts = (timeoutMs: unknown) =>
  Result.isSuccess(Schema.decodeUnknownResult(CommandRunInput)(inputOf(timeoutMs)))
const inputOf = (timeoutMs: unknown) => ({
  sandbox: "sbx_1",
  command: { command: "true", args: [], cwd: null, env: {} },
  timeoutMs
})

const endingAs = (end: Pick<CommandEnd, "by" | "failure">, command = "ls", loss = sandboxLossError(Option.none())) =>
  outcomeOf(
    new Command({ command, args: [], cwd: "/work", env: {} }),
    { end: new CommandEnd({ exitCode: 0, at, ...end }), stdout: "", stderr: "", truncated: false },
    loss
  )

const stoppedFor = (reason: string | null, status: Sandbox["status"] = "stopped") =>
  Option.some(
    new Sandbox({ name: SandboxName.make("sbx_1"), status, createdAt: at, incarnation: "1", expiresAt: at, reason })
  )

describe("A command run", () => {
  for (const [by, status, error] of [
    ["exited", "COMPLETED", undefined],
    ["timedOut", "TIMED_OUT", { code: "deadline", message: "The command ran longer than it was allowed to" }],
    ["killed", "CANCELED", { code: "killed", message: "The command was killed" }],
    ["lost", "FAILED", { code: "sandbox_deleted", message: "The sandbox was deleted while the command ran" }],
    [
      "unstarted",
      "FAILED",
      { code: "command_not_started", message: "The sandbox's provider failed to start the command" }
    ]
  ] as const) {
    it(`is ${status} when its command ended as "${by}"`, () => {
      const ending = endingAs({ by })
      assert.strictEqual(ending.status, status)
      assert.deepStrictEqual(ending.change.error, error)
      assert.strictEqual(ending.change.output === undefined, by === "unstarted")
    })
  }

  it("gives the reason why its sandbox stopped, unless the sandbox runs again", () => {
    const message = "The sandbox stopped while the command ran"
    assert.deepStrictEqual(sandboxLossError(stoppedFor("Its time was up")), {
      code: "sandbox_stopped",
      message: `${message}: Its time was up`
    })
    assert.strictEqual(sandboxLossError(stoppedFor(null)).message, message)
    assert.strictEqual(sandboxLossError(stoppedFor("an old reason", "running")).message, message)
  })

  it("has a distinct code and sentence for every reason why a program can't be started", () => {
    const errors = StartFailure.literals.map((failure) => endingAs({ by: "unstarted", failure }).change.error)
    assert.deepStrictEqual(
      errors.map((error) => error?.code),
      [...StartFailure.literals]
    )
    assert.strictEqual(new Set(errors.map((error) => error?.message)).size, errors.length)
  })

  it("quotes only the beginning of a long command in its sentence", () => {
    const { change } = endingAs({ by: "unstarted", failure: "command_not_found" }, "x".repeat(100_000))
    assert.isBelow(change.error!.message.length, 300)
  })

  it("has a timeout from 1 ms to 24 h, by default 15 min", () => {
    const day = 24 * 60 * 60 * 1000
    for (const timeout of [1, day]) assert.isTrue(accepts(timeout), String(timeout))
    for (const timeout of [0, -1, day + 1, 1.5]) assert.isFalse(accepts(timeout), String(timeout))
    assert.strictEqual(Duration.toMinutes(defaultTimeout), 15)
  })

  it("gives its id to its command", () => {
    assert.strictEqual(commandOf(RunId.make("run_1")), "run_1")
  })

  it("stores the output and exit code of its command, and whether there was more output", () => {
    for (const truncated of [true, false]) {
      const end = new CommandEnd({ by: "exited", exitCode: 7, at })
      assert.deepStrictEqual(outputOf({ end, stdout: "out", stderr: "err", truncated }), {
        stdout: "out",
        stderr: "err",
        exitCode: 7,
        truncated
      })
    }
  })

  const stored = { stdout: "aöb", stderr: "err", exitCode: 0, truncated: false }
  const read = (stdout: number, stderr: number, output: Schema.Json = stored) =>
    storedOutput(runWith(output), new OutputPosition({ stdout, stderr }))
  const next = (stdout: number, stderr: number) => new OutputPosition({ stdout, stderr })

  it("returns its stored output after the reader's position in each stream", () => {
    assert.deepStrictEqual(read(0, 0), [
      { stream: "stdout", text: "aöb", next: next(4, 0) },
      { stream: "stderr", text: "err", next: next(4, 3) }
    ])
    assert.deepStrictEqual(read(3, 2), [
      { stream: "stdout", text: "b", next: next(4, 2) },
      { stream: "stderr", text: "r", next: next(4, 3) }
    ])
    assert.deepStrictEqual(read(4, 1), [{ stream: "stderr", text: "rr", next: next(4, 3) }])
    assert.deepStrictEqual(read(1, 3), [{ stream: "stdout", text: "öb", next: next(4, 3) }])
    assert.deepStrictEqual(read(9, 1), [{ stream: "stderr", text: "rr", next: next(9, 3) }])
    assert.deepStrictEqual(read(1, 9), [{ stream: "stdout", text: "öb", next: next(4, 9) }])
    assert.deepStrictEqual(read(4, 3), [])
  })

  it("has no stored output before its end, or if its record has none", () => {
    for (const output of [null, {}, { stdout: "a", stderr: "b", exitCode: 0 }]) {
      assert.deepStrictEqual(read(0, 0, output), [])
    }
  })
})
