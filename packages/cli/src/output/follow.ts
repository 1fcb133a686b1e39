/** Follows a run: prints its output and exits with its exit code, as if its command ran here. */
import * as Effect from "effect/Effect"
import { ask } from "../client/Client.ts"
import { ExitCode } from "../ExitCode.ts"
import { CommandExited, type Failure, isTransient, RunFailed } from "../client/Failure.ts"
import * as Output from "./Output.ts"
import * as RunLog from "./RunLog.ts"

const cut = "the output is truncated: the command printed more than the log keeps"

const write = (event: RunLog.LogEvent) => {
  if (event._tag === "Ended") return event.ended.truncated === true ? Output.say(cut) : Effect.void
  const { stream, text } = event.printed
  return stream === "stdout" ? Output.print(text) : Output.printError(text)
}

/** Prints the JSON of an event as one line. */
const writeData = (event: RunLog.LogEvent) => Output.print(`${event.data}\n`)

const endings: Record<string, string> = {
  CANCELED: "was canceled",
  TIMED_OUT: "timed out",
  FAILED: "failed"
}

/** Describes the result of a run that did not complete. */
export const ending = (run: string, status: string, reason?: string): string =>
  `${run} ${endings[status] ?? status}${reason === undefined ? "" : `: ${reason}`}`

const reasonOf = Effect.fnUntraced(function* ({ account, run }: RunLog.WhichLog) {
  const { json } = yield* ask("runs.list", { query: { runId: run, account_id: account } })
  return json.runs[0]?.error?.message
})

/** Ends like the run: with the exit code of its command, or with the reason why there is none. */
const endAs = Effect.fnUntraced(function* (which: RunLog.WhichLog, { exitCode, status }: RunLog.Ended) {
  if (status === "COMPLETED") {
    if (exitCode !== null && exitCode !== ExitCode.ok) return yield* new CommandExited({ exitCode })
    return
  }
  const say = ending(which.run, status, yield* Effect.orElseSucceed(reasonOf(which), () => undefined))
  if (exitCode === null || exitCode === 0) return yield* new RunFailed({ say })
  yield* Output.say(say)
  return yield* new CommandExited({ exitCode })
})

/** Tells the user how to resume when following ends before the run. */
export const explainHowToResume =
  ({ account, run }: RunLog.WhichLog, by = "follow it with: castellan runs logs -f") =>
  <A, E extends Failure, R>(self: Effect.Effect<A, E, R>) => {
    const how = `${by} ${run}${account === undefined ? "" : ` --account ${account}`}`
    return self.pipe(
      Effect.onInterrupt(() => Output.say(`${run} is still running; ${how}`)),
      Effect.tapError((failure) =>
        isTransient(failure) ? Output.say(`lost the connection while following ${run}; ${how}`) : Effect.void
      )
    )
  }

/** Prints the run's output to the same streams until it ends, and ends with its exit code. */
export const followed = Effect.fnUntraced(function* (which: RunLog.WhichLog) {
  const tell = (yield* Output.isForProgram) ? writeData : write
  const ended = yield* RunLog.follow(which, tell).pipe(explainHowToResume(which))
  yield* endAs(which, ended)
})

/** Prints the run's output so far. */
export const printedSoFar = Effect.fnUntraced(function* (which: RunLog.WhichLog) {
  yield* RunLog.soFar(which, (yield* Output.isForProgram) ? writeData : write)
})
