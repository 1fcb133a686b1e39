/** Use cases of runs: queues, reads, follows and cancels them, and writes their status for workers. */
import { Context, DateTime, Duration, Effect, Layer, Option, PubSub, Schema, Stream } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { AccountScope } from "../identity/AccountScope.ts"
import { applyToLatest } from "../lifecycle/compareAndSet.ts"
import { givenOrNew, newNonce } from "../newNonce.ts"
import type { Page, PageOf } from "../Page.ts"
import type { OutputPosition } from "../sandbox/Command.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import { type OutputText, toText } from "../sandbox/OutputText.ts"
import { resultOf } from "../sandbox/Sandboxes.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import {
  CommandRunOutput,
  commandOf,
  decodeInput,
  encodeInput,
  outputOf,
  storedOutput,
  type CommandRequest
} from "./CommandRun.ts"
import {
  type AppliedRunTransition,
  hasEnded,
  isComplete,
  queued,
  type RunChange,
  RunId,
  runMachine,
  type RunStatus,
  type RunTransition,
  type TaskName,
  type TaskRun
} from "./TaskRun.ts"
import { TaskRunner } from "./TaskRunner.ts"
import { TaskRunStore } from "./TaskRunStore.ts"

/** The scope's account has no run with this id. */
export class TaskRunNotFound extends Schema.TaggedError<TaskRunNotFound>()("TaskRunNotFound", {
  id: Schema.String
}) {}

/**
 * An event in the log of a run: a piece of its command's output or, at the end, the ended run. `truncated` is set if
 * the command printed more than the log has.
 */
export type RunEvent =
  | { readonly _tag: "Printed"; readonly output: OutputText }
  | { readonly _tag: "Ended"; readonly run: TaskRun; readonly truncated: boolean }

/** A run to queue. The same `id` gives the same run. */
export interface NewRun {
  readonly task: TaskName
  readonly input: Schema.Json
  /** The sandbox that it works in, if any. */
  readonly sandbox?: SandboxName
  readonly id?: RunId
}

const isCommandOutput = Schema.is(CommandRunOutput)

/** How long to wait for the output of a canceled command. */
const canceledOutputTimeout = Duration.seconds(5)

/** How often a reader polls a run that another process may have changed. */
const pollInterval = Duration.seconds(1)

export class TaskRuns extends Context.Service<
  TaskRuns,
  {
    /** Queues a task for the scope's account. Idempotent on the run's id. */
    readonly start: (scope: AccountScope, wanted: NewRun) => Effect.Effect<TaskRun>
    /** Queues a command to run in the sandbox. */
    readonly startCommand: (scope: AccountScope, sandbox: SandboxName, wanted: CommandRequest) => Effect.Effect<TaskRun>
    readonly get: (scope: AccountScope, id: RunId) => Effect.Effect<TaskRun, TaskRunNotFound>
    /** The runs of the scope's account, newest first. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<TaskRun>>
    /** The output of the run after `from`, as it is printed, and then the ended run. */
    readonly log: (
      scope: AccountScope,
      id: RunId,
      from: OutputPosition
    ) => Stream.Stream<RunEvent, TaskRunNotFound | SandboxUnavailable>
    /** Waits until the run has ended, at most `atMost`, and returns its current state. */
    readonly awaitEnd: (
      scope: AccountScope,
      id: RunId,
      atMost: Duration.Duration
    ) => Effect.Effect<TaskRun, TaskRunNotFound>
    /** Cancels the run, kills every process of its command, and returns the run. Idempotent. */
    readonly cancel: (scope: AccountScope, id: RunId) => Effect.Effect<TaskRun, TaskRunNotFound | SandboxUnavailable>
    /** For workers: writes the run's next status, or returns none if that transition is no longer allowed. */
    readonly advance: (run: TaskRun, status: RunStatus, change?: RunChange) => Effect.Effect<Option.Option<TaskRun>>
    /** For workers: kills the command of an ended run, if it still runs. Adds its output to a canceled run. */
    readonly endCommand: (run: TaskRun) => Effect.Effect<void, SandboxUnavailable>
    /** For workers: notifies the run's readers in this process of a change. */
    readonly announce: (id: RunId) => Effect.Effect<void>
  }
>()("domain/task/TaskRuns") {
  static readonly layer = Layer.suspend(() => Layer.effect(TaskRuns, make))
}

/** The ports of the functions below. */
interface Services {
  readonly store: TaskRunStore["Service"]
  readonly runner: TaskRunner["Service"]
  readonly provider: SandboxProvider["Service"]
  readonly random: SecureRandom["Service"]
  /** The runs that changed in this process. */
  readonly changes: PubSub.PubSub<RunId>
}

const make = Effect.gen(function* () {
  const services: Services = {
    store: yield* TaskRunStore,
    runner: yield* TaskRunner,
    provider: yield* SandboxProvider,
    random: yield* SecureRandom,
    changes: yield* PubSub.unbounded<RunId>()
  }
  return TaskRuns.of({
    start: (scope, wanted) => start(services, scope, wanted),
    startCommand: (scope, sandbox, wanted) => startCommand(services, scope, sandbox, wanted),
    get: (scope, id) => get(services, scope, id),
    list: services.store.list,
    log: (scope, id, from) => Stream.unwrap(follow(services, scope, id, from)),
    awaitEnd: (scope, id, atMost) => awaitEnd(services, scope, id, atMost),
    cancel: (scope, id) => cancel(services, scope, id),
    advance: (run, status, change) => advance(services, run, status, change),
    endCommand: (run) => endCommand(services, run),
    announce: (id) => announce(services, id)
  })
})

const announce = ({ changes }: Services, id: RunId) => Effect.asVoid(PubSub.publish(changes, id))

const start = Effect.fn("TaskRuns.start")(function* (
  { random, runner }: Services,
  scope: AccountScope,
  wanted: NewRun
) {
  const run = queued({
    id: wanted.id ?? RunId.make(`run_${yield* newNonce(random)}`),
    account: scope.account,
    task: wanted.task,
    input: wanted.input,
    sandbox: wanted.sandbox ?? null,
    at: yield* DateTime.now
  })
  yield* runner.enqueue(run)
  return run
})

const startCommand = Effect.fnUntraced(function* (
  services: Services,
  scope: AccountScope,
  sandbox: SandboxName,
  { command, nonce, timeout }: CommandRequest
) {
  const input = encodeInput({ sandbox, command, timeoutMs: Duration.toMillis(timeout) })
  const id = RunId.make(`run_${yield* givenOrNew(services.random, nonce)}`)
  return yield* start(services, scope, { task: "run-sandbox-command", input, sandbox, id })
})

const get = Effect.fn("TaskRuns.get")(function* ({ store }: Services, scope: AccountScope, id: RunId) {
  const found = yield* store.get(scope, id)
  return Option.isSome(found) ? found.value : yield* new TaskRunNotFound({ id })
})

/** Applies a transition to the latest row of a run; none if it is not allowed any more. */
const apply = Effect.fnUntraced(function* (services: Services, run: TaskRun, transition: RunTransition) {
  const { store } = services
  const scope = AccountScope.ofOwner(run)
  const write = (applied: AppliedRunTransition) => store.compareAndSet(scope, applied)
  const applied = yield* applyToLatest(runMachine, write, store.get(scope, run.id), run, transition)
  if (Option.isSome(applied)) yield* announce(services, run.id)
  return applied
})

const advance = Effect.fn("TaskRuns.advance")(
  (services: Services, run: TaskRun, status: RunStatus, change: RunChange = {}) =>
    apply(services, run, { _tag: status, change })
)

/** Waits until `enough` accepts the run. Checks at once, at every notification, and periodically. */
const awaitRun = Effect.fnUntraced(function* <E>(
  services: Services,
  scope: AccountScope,
  id: RunId,
  changes: PubSub.Subscription<RunId>,
  enough: (run: TaskRun) => Effect.Effect<boolean, E>
) {
  const announced = Effect.repeat(PubSub.take(changes), { until: (other) => other === id })
  while (true) {
    const run = yield* get(services, scope, id)
    if (yield* enough(run)) return run
    yield* Effect.timeoutOption(announced, pollInterval)
  }
})

const awaitComplete = (services: Services, scope: AccountScope, id: RunId, changes: PubSub.Subscription<RunId>) =>
  awaitRun(services, scope, id, changes, (run) => Effect.map(DateTime.now, (now) => isComplete(run, now)))

/** Whether the sandbox has the run's command. */
const isStarted = ({ provider }: Services, run: TaskRun) =>
  provider
    .command(decodeInput(run.input).sandbox, commandOf(run.id))
    .pipe(
      Effect.as(true),
      Effect.catchTags({ CommandNotFound: () => Effect.succeed(false), SandboxGone: () => Effect.succeed(false) })
    )

/** The output of the run's command after `from`. Calls `onPosition` with the position after each piece. */
const commandOutput = (
  { provider }: Services,
  run: TaskRun,
  from: OutputPosition,
  onPosition: (next: OutputPosition) => void
): Stream.Stream<OutputText, SandboxUnavailable> =>
  toText(
    provider
      .output(decodeInput(run.input).sandbox, commandOf(run.id), from)
      .pipe(Stream.tap(({ next }) => Effect.sync(() => onPosition(next))))
  ).pipe(Stream.catchTags({ CommandNotFound: () => Stream.empty, SandboxGone: () => Stream.empty }))

/** Whether the provider has cut off the output that ends at this position. */
const isTruncated = ({ provider }: Services, { stderr, stdout }: OutputPosition) =>
  Math.max(stdout, stderr) >= provider.supports.outputKept

const follow = Effect.fnUntraced(function* (services: Services, scope: AccountScope, id: RunId, from: OutputPosition) {
  const changes: PubSub.Subscription<RunId> = yield* PubSub.subscribe(services.changes)
  let started = false
  const run = yield* awaitRun(services, scope, id, changes, (run) =>
    run.task !== "run-sandbox-command"
      ? Effect.succeed(true)
      : Effect.map(isStarted(services, run), (is) => {
          started = is
          return is || hasEnded(run)
        })
  )
  let position = from
  const output = started
    ? commandOutput(services, run, from, (next) => {
        position = next
      })
    : Stream.fromIterable(storedOutput(run, from))
  const ended = awaitComplete(services, scope, id, changes)
  const toEnded = (run: TaskRun): RunEvent => ({
    _tag: "Ended",
    run,
    truncated: started ? isTruncated(services, position) : isCommandOutput(run.output) && run.output.truncated
  })
  return Stream.concat(
    Stream.map(output, (output): RunEvent => ({ _tag: "Printed", output })),
    Stream.fromEffect(Effect.map(ended, toEnded))
  )
})

const awaitEnd = Effect.fn("TaskRuns.awaitEnd")(function* (
  services: Services,
  scope: AccountScope,
  id: RunId,
  atMost: Duration.Duration
) {
  const changes = yield* PubSub.subscribe(services.changes)
  const ended = yield* Effect.timeoutOption(awaitComplete(services, scope, id, changes), atMost)
  return Option.isSome(ended) ? ended.value : yield* get(services, scope, id)
}, Effect.scoped)

/** Adds the output of the command to a canceled run that has none. */
const addOutput = Effect.fnUntraced(function* (services: Services, run: TaskRun) {
  const { provider, store } = services
  const { sandbox } = decodeInput(run.input)
  const id = commandOf(run.id)
  const { end } = yield* provider.wait(sandbox, id)
  const output = end === null ? null : outputOf(yield* resultOf(provider)(sandbox, id, end))
  if (output === null) return
  const latest = yield* store.get(AccountScope.ofOwner(run), run.id)
  if (Option.isSome(latest)) yield* apply(services, latest.value, { _tag: "AddOutput", output })
})

const endCommand = Effect.fn("TaskRuns.endCommand")(
  function* (services: Services, run: TaskRun) {
    if (run.task !== "run-sandbox-command") return
    yield* services.provider.kill(decodeInput(run.input).sandbox, commandOf(run.id))
    // The run has ended: wait only briefly for its output, and ignore a failure.
    yield* addOutput(services, run).pipe(
      Effect.timeoutOption(canceledOutputTimeout),
      Effect.catchTag("SandboxUnavailable", (failure) =>
        Effect.logWarning("Failed to read the output of a canceled run", { run: run.id }, failure)
      )
    )
  },
  Effect.catchTags({ CommandNotFound: () => Effect.void, SandboxGone: () => Effect.void })
)

const cancel = Effect.fn("TaskRuns.cancel")(function* (services: Services, scope: AccountScope, id: RunId) {
  const run = yield* get(services, scope, id)
  const latest = Option.getOrElse(yield* advance(services, run, "CANCELED"), () => run)
  if (latest.status === "CANCELED") yield* endCommand(services, latest)
  return yield* get(services, scope, id)
})
