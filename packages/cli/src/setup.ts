/** A setup, shown step by step while it happens. */
import * as Effect from "effect/Effect"
import { ask } from "./client/Client.ts"
import { RunFailed } from "./client/Failure.ts"
import { ending, goesOn } from "./output/follow.ts"
import * as Output from "./output/Output.ts"
import type { WhichLog } from "./output/RunLog.ts"
import { fields, plain } from "./output/Table.ts"
import type { Run } from "./client/Operations.ts"

/** What was shown of a run so far. */
export interface Shown {
  readonly logs: number
  readonly step: string | undefined
}

export const nothingShown: Shown = { logs: 0, step: undefined }

/** The lines that a look at the run adds to what was shown; each step and each log line comes once. */
export const news = ({ metadata: { currentStep, logs } }: Run, shown: Shown) => {
  const lines = logs.slice(shown.logs).map(({ message }) => message)
  if (currentStep !== undefined && currentStep !== shown.step && !lines.includes(currentStep)) lines.push(currentStep)
  return { lines, shown: { logs: logs.length, step: currentStep ?? shown.step } satisfies Shown }
}

const lookEvery = "1 second"

const endings = new Set<Run["status"]>(["COMPLETED", "CANCELED", "FAILED", "TIMED_OUT"])

const watch = Effect.fnUntraced(function* ({ account, run: id }: WhichLog) {
  let shown = nothingShown
  while (true) {
    const { json } = yield* ask("runs.list", { query: { runId: id, account_id: account } })
    const run = json.runs[0]
    if (run === undefined) return yield* new RunFailed({ say: `${id} is not there any more` })
    const fresh = news(run, shown)
    shown = fresh.shown
    yield* Output.print(fresh.lines.map((line) => `${plain(line)}\n`).join(""))
    if (endings.has(run.status)) return run
    yield* Effect.sleep(lookEvery)
  }
})

/** Shows the steps of a setup until it ends, then what it made. */
export const followedSetup = Effect.fnUntraced(function* (which: WhichLog) {
  const run = yield* watch(which).pipe(goesOn(which, "look at it with: castellan runs get"))
  if (run.status !== "COMPLETED") {
    return yield* new RunFailed({ say: ending(run.id, run.status, run.error?.message) })
  }
  const { githubRepo, snapshotId } = run.output as Record<"githubRepo" | "snapshotId", string | undefined>
  yield* Output.print(fields({ repository: githubRepo, snapshot: snapshotId }))
})
