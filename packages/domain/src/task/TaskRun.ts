import { type DateTime, Duration, type Option, Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { AppliedTransition, type StateMachine, type TransitionTable } from "../lifecycle/StateMachine.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"

export const RunId = Schema.String.check(Schema.isPattern(/^run_[A-Za-z0-9]{1,60}$/)).pipe(Schema.brand("RunId"))
export type RunId = typeof RunId.Type

/** The kinds of work that outlive a request. */
export const TaskName = Schema.Literals([
  "run-sandbox-command",
  "setup-sandbox",
  "build-org-snapshot",
  "session-lifecycle"
])
export type TaskName = typeof TaskName.Type

export const RunStatus = Schema.Literals([
  "QUEUED",
  "DELAYED",
  "EXECUTING",
  "REATTEMPTING",
  "COMPLETED",
  "CANCELED",
  "FAILED",
  "TIMED_OUT"
])
export type RunStatus = typeof RunStatus.Type

/** A line of a run's progress log. */
export const RunLog = Schema.Struct({ at: Schema.DateTimeUtcFromString, message: Schema.String })
export type RunLog = typeof RunLog.Type

/** One execution of a task: its input, state and result. */
export class TaskRun extends Schema.Class<TaskRun>("TaskRun")({
  id: RunId,
  account: AccountId,
  task: TaskName,
  /** The sandbox that it works in, if any. A live run keeps this sandbox awake. */
  sandbox: Schema.NullOr(SandboxName),
  /** The input; its shape depends on the task. */
  input: Schema.Json,
  status: RunStatus,
  /** Number of attempts started. */
  attempt: Schema.Int,
  currentStep: Schema.NullOr(Schema.String),
  logs: Schema.Array(RunLog),
  output: Schema.NullOr(Schema.Json),
  /** Why it did not complete, as a sentence for its owner. */
  error: Schema.NullOr(Schema.String),
  /** Why it did not complete, as a code such as `sandbox_stopped`. Also null on runs stored before there were codes. */
  errorCode: Schema.NullOr(Schema.String),
  createdAt: Schema.DateTimeUtc,
  updatedAt: Schema.DateTimeUtc,
  startedAt: Schema.NullOr(Schema.DateTimeUtc),
  finishedAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Increases with every write. A write that does not expect the current version is refused. */
  version: Schema.Int
}) {}

/** A newly queued run. */
export const queued = (
  asked: Pick<TaskRun, "id" | "account" | "task" | "input"> & {
    readonly at: DateTime.Utc
    readonly sandbox?: SandboxName | null
  }
): TaskRun =>
  new TaskRun({
    id: asked.id,
    account: asked.account,
    task: asked.task,
    sandbox: asked.sandbox ?? null,
    input: asked.input,
    status: "QUEUED",
    attempt: 0,
    currentStep: null,
    logs: [],
    output: null,
    error: null,
    errorCode: null,
    createdAt: asked.at,
    updatedAt: asked.at,
    startedAt: null,
    finishedAt: null,
    version: 0
  })

/** The transitions of runs: one to each status, named after it, and one that adds the output of a canceled run. */
export const allowedTransitions: TransitionTable<RunTransition["_tag"], RunStatus> = {
  QUEUED: { DELAYED: ["QUEUED"] },
  DELAYED: {},
  EXECUTING: {
    QUEUED: ["EXECUTING"],
    DELAYED: ["EXECUTING"],
    EXECUTING: ["EXECUTING"],
    REATTEMPTING: ["EXECUTING"]
  },
  REATTEMPTING: { EXECUTING: ["REATTEMPTING"] },
  COMPLETED: { EXECUTING: ["COMPLETED"] },
  CANCELED: {
    QUEUED: ["CANCELED"],
    DELAYED: ["CANCELED"],
    EXECUTING: ["CANCELED"],
    REATTEMPTING: ["CANCELED"]
  },
  FAILED: { QUEUED: ["FAILED"], DELAYED: ["FAILED"], EXECUTING: ["FAILED"], REATTEMPTING: ["FAILED"] },
  TIMED_OUT: { EXECUTING: ["TIMED_OUT"] },
  AddOutput: { CANCELED: ["CANCELED"] }
}

const endStatuses: ReadonlyArray<RunStatus> = ["COMPLETED", "CANCELED", "FAILED", "TIMED_OUT"]

/** Whether the run has ended: its status does not change any more. */
export const hasEnded = (run: TaskRun): boolean => endStatuses.includes(run.status)

/** Why a run did not complete: a stable code and a sentence. */
export interface RunError {
  readonly code: string
  readonly message: string
}

/** The fields that a transition of a run may change besides its status. */
export interface RunChange {
  readonly currentStep?: string | null
  readonly log?: string
  readonly output?: Schema.Json
  readonly error?: RunError
}

/** The transitions of a run. */
export type RunTransition =
  | { readonly _tag: RunStatus; readonly change: RunChange }
  | { readonly _tag: "AddOutput"; readonly output: Schema.Json }

/** An allowed transition of a run. Runs emit no events. */
export type AppliedRunTransition = AppliedTransition<TaskRun, never>

const changeOf = (run: TaskRun, transition: RunTransition, now: DateTime.Utc): Partial<TaskRun> => {
  if (transition._tag === "AddOutput") return { output: transition.output }
  const { _tag: status, change } = transition
  const begins = status === "EXECUTING" && run.status !== "EXECUTING"
  return {
    status,
    attempt: begins ? run.attempt + 1 : run.attempt,
    currentStep: change.currentStep === undefined ? run.currentStep : change.currentStep,
    logs: change.log === undefined ? run.logs : [...run.logs, { at: now, message: change.log }],
    output: change.output === undefined ? run.output : change.output,
    error: change.error === undefined ? run.error : change.error.message,
    errorCode: change.error === undefined ? run.errorCode : change.error.code,
    startedAt: begins ? (run.startedAt ?? now) : run.startedAt,
    finishedAt: endStatuses.includes(status) ? now : null
  }
}

export const runMachine: StateMachine<TaskRun, RunTransition, RunStatus, never> = {
  allowedTransitions,
  stateOf: ({ status }) => status,
  versionOf: ({ version }) => version,
  // Does not replace output that is already there.
  accepts: (run, { _tag }) => _tag !== "AddOutput" || run.output === null,
  change: (run, transition, { now, version }) =>
    new TaskRun({ ...run, ...changeOf(run, transition, now), updatedAt: now, version }),
  eventFor: () => null
}

/** The transition of the run to `status`; none if it is not allowed. */
export const advance = (
  run: TaskRun,
  status: RunStatus,
  now: DateTime.Utc,
  change: RunChange = {}
): Option.Option<AppliedRunTransition> => AppliedTransition.of(runMachine, run, { _tag: status, change }, now)

/** How long the output of a canceled run may be missing. It is read once the command has ended. */
export const outputWithin = Duration.seconds(5)

/** Whether the run will not change any more. The output of a canceled run is added after its end. */
export const isComplete = (run: TaskRun, now: DateTime.Utc): boolean =>
  hasEnded(run) &&
  (run.status !== "CANCELED" ||
    run.task !== "run-sandbox-command" ||
    run.startedAt === null ||
    run.output !== null ||
    run.finishedAt === null ||
    run.finishedAt.epochMilliseconds + Duration.toMillis(outputWithin) <= now.epochMilliseconds)

/** Age at which a run no longer keeps its sandbox awake. Longer than the longest command timeout. */
export const holdsAtMost = Duration.hours(25)

/** Whether a run keeps its sandbox awake. A run that is too old must have been abandoned. */
export const isHolding = (run: TaskRun, now: DateTime.Utc): boolean =>
  !hasEnded(run) && run.createdAt.epochMilliseconds + Duration.toMillis(holdsAtMost) > now.epochMilliseconds

/** Milliseconds from its start to its end, or to `now` while it runs; 0 before it starts. */
export const duration = (run: TaskRun, now: DateTime.Utc): number =>
  run.startedAt === null ? 0 : Math.max(0, (run.finishedAt ?? now).epochMilliseconds - run.startedAt.epochMilliseconds)
