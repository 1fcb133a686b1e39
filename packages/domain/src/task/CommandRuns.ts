import { Duration, Effect, Layer, Option } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { Sandboxes } from "../sandbox/Sandboxes.ts"
import { commandOf, decodeInput, outcomeOf, sandboxLossError } from "./CommandRun.ts"
import { hasEnded, type TaskRun } from "./TaskRun.ts"
import { TaskRunner, RetryLater } from "./TaskRunner.ts"
import { TaskRuns } from "./TaskRuns.ts"
import { TaskRunStore } from "./TaskRunStore.ts"

/** Maximum attempts at a run whose provider is unavailable. */
const maxAttempts = 5

/** Delay after attempt `n`: 1 s, 2 s, 4 s, … */
const retryDelay = (n: number) => Duration.seconds(2 ** Math.max(0, n - 1))

/** The worker of `run-sandbox-command`: starts the command, or finds the one of an earlier attempt, and awaits its end. */
export const layer = (options: { readonly concurrency: number }) =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const sandboxes = yield* Sandboxes
      const runs = yield* TaskRuns
      const store = yield* TaskRunStore
      const runner = yield* TaskRunner

      const isCanceled = (run: TaskRun) =>
        Effect.map(store.get(AccountScope.ofOwner(run), run.id), Option.exists(hasEnded))

      /** Kills the command of a run that has ended. The server that ended the run may have crashed before it could. */
      const endCommand = (run: TaskRun) => Effect.ignore(runs.endCommand(run))

      const complete = Effect.fnUntraced(function* (run: TaskRun) {
        const { command, sandbox, timeoutMs } = decodeInput(run.input)
        const id = commandOf(run.id)
        yield* provider.start(sandbox, { ...command, id, timeout: Duration.millis(timeoutMs) })
        yield* runs.announce(run.id)
        // A cancellation before the start found no command to kill.
        if (yield* isCanceled(run)) return yield* endCommand(run)
        const end = yield* sandboxes.awaitEnd(sandbox, id)
        const result = yield* sandboxes.result(sandbox, id, end)
        const loss = sandboxLossError(end.by === "lost" ? yield* provider.find(sandbox) : Option.none())
        const { change, status } = outcomeOf(command, result, loss)
        const ended = yield* runs.advance(run, status, change)
        if (Option.isNone(ended)) yield* endCommand(run)
      })

      const failOrRetryLater = Effect.fnUntraced(function* (run: TaskRun, failure: SandboxUnavailable) {
        yield* Effect.logWarning("Failed to run a command: provider unavailable", failure)
        if (failure.retryable && run.attempt < maxAttempts) {
          yield* runs.advance(run, "REATTEMPTING")
          return yield* new RetryLater({ after: retryDelay(run.attempt) })
        }
        yield* runs.advance(run, "FAILED", {
          error: { code: "provider_unavailable", message: "The sandbox could not be reached" }
        })
      })

      const work = Effect.fn("CommandRuns.work")(function* (queued: TaskRun) {
        const executing = yield* runs.advance(queued, "EXECUTING")
        if (Option.isNone(executing)) return yield* endCommand(queued)
        const run = executing.value
        const fail = (code: string, message: string) =>
          Effect.asVoid(runs.advance(run, "FAILED", { error: { code, message } }))
        yield* complete(run).pipe(
          Effect.catchTags({
            SandboxGone: () => fail("sandbox_deleted", "The sandbox no longer exists"),
            SandboxNotRunning: ({ reason }) =>
              fail("sandbox_stopped", `The sandbox is not running${reason === null ? "" : `: ${reason}`}`),
            CommandNotFound: () => fail("command_lost", "The sandbox lost the command"),
            SandboxUnavailable: (failure) => failOrRetryLater(run, failure)
          })
        )
      })

      yield* runner.process("run-sandbox-command", options, work)
    })
  )
