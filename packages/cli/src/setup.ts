/** Follows a setup run and prints its steps. */
import * as Effect from "effect/Effect"
import { ask } from "./client/Client.ts"
import { RunFailed } from "./client/Failure.ts"
import { ending, explainHowToResume } from "./output/follow.ts"
import * as Output from "./output/Output.ts"
import type { WhichLog } from "./output/RunLog.ts"
import { fields, plain } from "./output/Table.ts"
import type { Run } from "./client/Operations.ts"

/** What has been printed of a run. */
export interface Printed {
  /** Number of log lines. */
  readonly logs: number
  readonly step: string | undefined
}

export const nothingPrinted: Printed = { logs: 0, step: undefined }

/** The lines of a run that have not been printed; each step and each log line is printed once. */
export const news = ({ metadata: { currentStep, logs } }: Run, printed: Printed) => {
  const lines = logs.slice(printed.logs).map(({ message }) => message)
  if (currentStep !== undefined && currentStep !== printed.step && !lines.includes(currentStep)) lines.push(currentStep)
  return { lines, printed: { logs: logs.length, step: currentStep ?? printed.step } satisfies Printed }
}

const pollInterval = "1 second"

const endings = new Set<Run["status"]>(["COMPLETED", "CANCELED", "FAILED", "TIMED_OUT"])

const watch = Effect.fnUntraced(function* ({ account, run: id }: WhichLog) {
  let printed = nothingPrinted
  while (true) {
    const { json } = yield* ask("runs.list", { query: { runId: id, account_id: account } })
    const run = json.runs[0]
    if (run === undefined) return yield* new RunFailed({ say: `${id} no longer exists` })
    const fresh = news(run, printed)
    printed = fresh.printed
    yield* Output.print(fresh.lines.map((line) => `${plain(line)}\n`).join(""))
    if (endings.has(run.status)) return run
    yield* Effect.sleep(pollInterval)
  }
})

/** Prints the steps of a setup until it ends, then its repository and snapshot. */
export const followedSetup = Effect.fnUntraced(function* (which: WhichLog) {
  const run = yield* watch(which).pipe(explainHowToResume(which, "show it with: castellan runs get"))
  if (run.status !== "COMPLETED") {
    return yield* new RunFailed({ say: ending(run.id, run.status, run.error?.message) })
  }
  const { githubRepo, snapshotId } = run.output as Record<"githubRepo" | "snapshotId", string | undefined>
  yield* Output.print(fields({ repository: githubRepo, snapshot: snapshotId }))
})
