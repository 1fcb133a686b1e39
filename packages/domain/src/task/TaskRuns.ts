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
const endsWithin = Duration.seconds(5)

/** How often a reader polls a run that another process may have changed. */
const lookAgainAfter = Duration.seconds(1)

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
  static readonly layer = Layer.effect(
    TaskRuns,
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const runner = yield* TaskRunner
      const provider = yield* SandboxProvider
      const random = yield* SecureRandom
      const result = resultOf(provider)
      const changed = yield* PubSub.unbounded<RunId>()

      const announce = (id: RunId) => Effect.asVoid(PubSub.publish(changed, id))

      const start = Effect.fn("TaskRuns.start")(function* (scope: AccountScope, wanted: NewRun) {
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
        scope: AccountScope,
        sandbox: SandboxName,
        { command, nonce, timeout }: CommandRequest
      ) {
        const input = encodeInput({ sandbox, command, timeoutMs: Duration.toMillis(timeout) })
        const id = RunId.make(`run_${yield* givenOrNew(random, nonce)}`)
        return yield* start(scope, { task: "run-sandbox-command", input, sandbox, id })
      })

      const get = Effect.fn("TaskRuns.get")(function* (scope: AccountScope, id: RunId) {
        const found = yield* store.get(scope, id)
        return Option.isSome(found) ? found.value : yield* new TaskRunNotFound({ id })
      })

      /** Applies a transition to the latest row of a run; none if it is not allowed any more. */
      const apply = Effect.fnUntraced(function* (run: TaskRun, transition: RunTransition) {
        const scope = AccountScope.ofOwner(run)
        const write = (applied: AppliedRunTransition) => store.compareAndSet(scope, applied)
        const applied = yield* applyToLatest(runMachine, write, store.get(scope, run.id), run, transition)
        if (Option.isSome(applied)) yield* announce(run.id)
        return applied
      })

      const write = Effect.fn("TaskRuns.advance")((run: TaskRun, status: RunStatus, change: RunChange = {}) =>
        apply(run, { _tag: status, change })
      )

      /** Waits until `enough` accepts the run. Checks at once, at every notification, and periodically. */
      const awaitRun = Effect.fnUntraced(function* <E>(
        scope: AccountScope,
        id: RunId,
        changes: PubSub.Subscription<RunId>,
        enough: (run: TaskRun) => Effect.Effect<boolean, E>
      ) {
        const announced = Effect.repeat(PubSub.take(changes), { until: (other) => other === id })
        while (true) {
          const run = yield* get(scope, id)
          if (yield* enough(run)) return run
          yield* Effect.timeoutOption(announced, lookAgainAfter)
        }
      })

      const awaitSettled = (scope: AccountScope, id: RunId, changes: PubSub.Subscription<RunId>) =>
        awaitRun(scope, id, changes, (run) => Effect.map(DateTime.now, (now) => isComplete(run, now)))

      const isStarted = (run: TaskRun) =>
        provider
          .command(decodeInput(run.input).sandbox, commandOf(run.id))
          .pipe(
            Effect.as(true),
            Effect.catchTags({ CommandNotFound: () => Effect.succeed(false), SandboxGone: () => Effect.succeed(false) })
          )

      const printed = (
        run: TaskRun,
        from: OutputPosition,
        seen: (next: OutputPosition) => void
      ): Stream.Stream<OutputText, SandboxUnavailable> =>
        toText(
          provider
            .output(decodeInput(run.input).sandbox, commandOf(run.id), from)
            .pipe(Stream.tap(({ next }) => Effect.sync(() => seen(next))))
        ).pipe(Stream.catchTags({ CommandNotFound: () => Stream.empty, SandboxGone: () => Stream.empty }))

      const isCut = ({ stderr, stdout }: OutputPosition) => Math.max(stdout, stderr) >= provider.supports.outputKept

      const follow = Effect.fnUntraced(function* (scope: AccountScope, id: RunId, from: OutputPosition) {
        const changes: PubSub.Subscription<RunId> = yield* PubSub.subscribe(changed)
        let started = false
        const run = yield* awaitRun(scope, id, changes, (run) =>
          run.task !== "run-sandbox-command"
            ? Effect.succeed(true)
            : Effect.map(isStarted(run), (is) => {
                started = is
                return is || hasEnded(run)
              })
        )
        let at = from
        const output = started
          ? printed(run, from, (next) => {
              at = next
            })
          : Stream.fromIterable(storedOutput(run, from))
        const ended = awaitSettled(scope, id, changes)
        const toEnded = (run: TaskRun): RunEvent => ({
          _tag: "Ended",
          run,
          truncated: started ? isCut(at) : isCommandOutput(run.output) && run.output.truncated
        })
        return Stream.concat(
          Stream.map(output, (output): RunEvent => ({ _tag: "Printed", output })),
          Stream.fromEffect(Effect.map(ended, toEnded))
        )
      })

      const awaitEnd = Effect.fn("TaskRuns.awaitEnd")(function* (
        scope: AccountScope,
        id: RunId,
        atMost: Duration.Duration
      ) {
        const changes = yield* PubSub.subscribe(changed)
        const ended = yield* Effect.timeoutOption(awaitSettled(scope, id, changes), atMost)
        return Option.isSome(ended) ? ended.value : yield* get(scope, id)
      }, Effect.scoped)

      /** Adds the output of the command to a canceled run that has none. */
      const keepOutput = Effect.fnUntraced(function* (run: TaskRun) {
        const { sandbox } = decodeInput(run.input)
        const id = commandOf(run.id)
        const scope = AccountScope.ofOwner(run)
        const { end } = yield* provider.wait(sandbox, id)
        const output = end === null ? null : outputOf(yield* result(sandbox, id, end))
        if (output === null) return
        const latest = yield* store.get(scope, run.id)
        if (Option.isSome(latest)) yield* apply(latest.value, { _tag: "AddOutput", output })
      })

      const endCommand = Effect.fn("TaskRuns.endCommand")(
        function* (run: TaskRun) {
          if (run.task !== "run-sandbox-command") return
          yield* provider.kill(decodeInput(run.input).sandbox, commandOf(run.id))
          // The run has ended: wait only briefly for its output, and ignore a failure.
          yield* keepOutput(run).pipe(
            Effect.timeoutOption(endsWithin),
            Effect.catchTag("SandboxUnavailable", (failure) =>
              Effect.logWarning("Failed to read the output of a canceled run", { run: run.id }, failure)
            )
          )
        },
        Effect.catchTags({ CommandNotFound: () => Effect.void, SandboxGone: () => Effect.void })
      )

      const cancel = Effect.fn("TaskRuns.cancel")(function* (scope: AccountScope, id: RunId) {
        const run = yield* get(scope, id)
        const now = Option.getOrElse(yield* write(run, "CANCELED"), () => run)
        if (now.status === "CANCELED") yield* endCommand(now)
        return yield* get(scope, id)
      })

      return TaskRuns.of({
        start,
        startCommand,
        get,
        list: store.list,
        log: (scope, id, from) => Stream.unwrap(follow(scope, id, from)),
        awaitEnd,
        cancel,
        advance: write,
        endCommand,
        announce
      })
    })
  )
}
