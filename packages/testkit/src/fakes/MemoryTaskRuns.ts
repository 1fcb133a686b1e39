import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { hasEnded, type RunId, TaskName, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner, type RetryLater } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { Context, DateTime, Duration, Effect, Exit, FiberSet, Layer, Option, Queue } from "effect"
import { pageOf } from "./stores/pageOf.ts"

/** Delay before the next attempt at a run whose worker died. */
const afterDefect = Duration.seconds(1)

/** Task runs and their queue in memory. */
export const layer = Layer.effectContext(
  Effect.gen(function* () {
    const rows = new Map<RunId, TaskRun>()
    const queues = new Map<string, Queue.Queue<RunId>>()
    const waiting = yield* FiberSet.make()

    const queueOf = Effect.fnUntraced(function* (task: string) {
      const known = queues.get(task)
      if (known !== undefined) return known
      const made = yield* Queue.unbounded<RunId>()
      queues.set(task, made)
      return made
    })

    const own = (scope: AccountScope, id: RunId) =>
      Option.filter(Option.fromUndefinedOr(rows.get(id)), (run) => run.account === scope.account)

    const store = TaskRunStore.of({
      get: (scope, id) => Effect.sync(() => own(scope, id)),
      list: (scope, page) =>
        Effect.sync(() => {
          const mine = [...rows.values()].filter((run) => run.account === scope.account)
          const { next, rows: found } = pageOf(mine, page, (run) => ({
            at: run.createdAt.epochMilliseconds,
            id: run.id
          }))
          return { rows: found.map((run) => new TaskRun({ ...run, output: null })), next }
        }),
      liveIn: (scope, sandbox) =>
        Effect.sync(() =>
          [...rows.values()]
            .filter((run) => run.account === scope.account && run.sandbox === sandbox && !hasEnded(run))
            .map((run) => new TaskRun({ ...run, logs: [] }))
        ),
      compareAndSet: (scope, { after: run, expectedVersion }) =>
        Effect.sync(() => {
          const known = own(scope, run.id)
          if (Option.isNone(known) || known.value.version !== expectedVersion) return false
          rows.set(run.id, run)
          return true
        })
    })

    const ready = new Set<RunId>()

    const offer = (run: { readonly task: string; readonly id: RunId }) =>
      Effect.flatMap(queueOf(run.task), (queue) => {
        ready.add(run.id)
        return Queue.offer(queue, run.id)
      })

    const enqueue = Effect.fnUntraced(function* (run: TaskRun) {
      const known = rows.get(run.id)
      if (known !== undefined && known.account !== run.account) {
        return yield* Effect.die(new Error("the id of the run belongs to another account"))
      }
      if (known !== undefined) return
      rows.set(run.id, run)
      yield* offer(run)
    })

    const deliver = Effect.fnUntraced(function* (id: RunId, work: (run: TaskRun) => Effect.Effect<void, RetryLater>) {
      const run = rows.get(id)
      ready.delete(id)
      if (run === undefined) return
      const exit = yield* Effect.exit(Effect.interruptible(work(run)))
      if (Exit.isSuccess(exit)) return
      if (Exit.hasInterrupts(exit)) return yield* offer(run)
      const failure = Exit.findErrorOption(exit)
      const after = Option.match(failure, { onNone: () => afterDefect, onSome: (again) => again.after })
      yield* FiberSet.run(waiting, Effect.andThen(Effect.sleep(after), offer(run)))
    })

    const runner = TaskRunner.of({
      enqueue,
      process: (task, { concurrency }, work) =>
        Effect.gen(function* () {
          const queue = yield* queueOf(task)
          // Interruptible only while it waits or works, so that every run it took is worked on or queued again.
          const next = Effect.interruptible(Queue.take(queue))
          const worker = Effect.forever(Effect.uninterruptible(Effect.flatMap(next, (id) => deliver(id, work))))
          for (let i = 0; i < concurrency; i++) yield* Effect.forkScoped(worker)
        }),
      backlog: Effect.sync(() => {
        const found = [...ready].flatMap((id) => rows.get(id) ?? [])
        return TaskName.literals.flatMap((task) => {
          const waits = found.filter((run) => run.task === task).map(({ createdAt }) => createdAt)
          return waits.length === 0 ? [] : [{ task, depth: waits.length, oldest: waits.reduce(DateTime.min) }]
        })
      }),
      ping: Effect.void
    })

    return Context.make(TaskRunStore, store).pipe(Context.add(TaskRunner, runner))
  })
)
