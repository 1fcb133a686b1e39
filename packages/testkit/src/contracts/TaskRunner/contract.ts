/** The contract of TaskRunner: what every queue of task runs guarantees. */
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { RunId, type TaskName, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner, RetryLater } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { assert } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, type Layer, Option, Queue } from "effect"
import * as given from "../../given.ts"

import { type Clauses, runContract } from "../contract.ts"
import { next, type Ports, runOf } from "../TaskRunStore/fixtures.ts"

/** Works on the account's runs of a task during `use`; runs that other clauses left behind succeed at once. */
const withWorker = <A, E>(
  scope: AccountScope,
  task: TaskName,
  concurrency: number,
  work: (run: TaskRun) => Effect.Effect<void, RetryLater>,
  use: Effect.Effect<A, E, Ports>
) =>
  Effect.scoped(
    Effect.gen(function* () {
      const ours = (run: TaskRun) => (run.account === scope.account ? work(run) : Effect.void)
      yield* (yield* TaskRunner).process(task, { concurrency }, ours)
      return yield* use
    })
  )

const soon = Duration.millis(50)

export const clauses: Clauses<Ports> = {
  "enqueueing a run several times delivers it once": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      yield* Effect.all([runner.enqueue(run), runner.enqueue(run), runner.enqueue(run)], { concurrency: 3 })
      const last = runOf(scope, { task: "setup-sandbox" })
      yield* runner.enqueue(last)
      const delivered = yield* Queue.unbounded<RunId>()
      yield* withWorker(
        scope,
        "setup-sandbox",
        1,
        ({ id }) => Effect.asVoid(Queue.offer(delivered, id)),
        Effect.gen(function* () {
          assert.deepStrictEqual([yield* Queue.take(delivered), yield* Queue.take(delivered)], [run.id, last.id])
        })
      )
    }),

  "an id that belongs to another account is refused, and nothing is written or queued": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const store = yield* TaskRunStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const run = runOf(one)
      yield* runner.enqueue(run)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(runner.enqueue(new TaskRun({ ...run, account: two.account })))))
      assert.isTrue(Option.isNone(yield* store.get(two, run.id)))
      assert.deepStrictEqual(yield* store.get(one, run.id), Option.some(run))
    }),

  "a run is delivered with the current value of its row": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      yield* runner.enqueue(run)
      const canceled = next(run, "CANCELED")
      yield* store.compareAndSet(scope, canceled)
      const seen = yield* Deferred.make<TaskRun>()
      const delivered = yield* withWorker(
        scope,
        "setup-sandbox",
        1,
        (run) => Effect.asVoid(Deferred.succeed(seen, run)),
        Deferred.await(seen)
      )
      assert.deepStrictEqual(delivered, canceled.after)
    }),

  "a run is delivered to a worker that started before it was enqueued": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      const seen = yield* Deferred.make<RunId>()
      const use = Effect.andThen(runner.enqueue(run), Deferred.await(seen))
      const id = yield* withWorker(
        scope,
        "setup-sandbox",
        1,
        ({ id }) => Effect.asVoid(Deferred.succeed(seen, id)),
        use
      )
      assert.strictEqual(id, run.id)
    }),

  "a run whose work succeeds is not delivered again": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const [first, last] = [runOf(scope, { task: "setup-sandbox" }), runOf(scope, { task: "setup-sandbox" })]
      const delivered = yield* Queue.unbounded<RunId>()
      const note = ({ id }: TaskRun) => Effect.asVoid(Queue.offer(delivered, id))
      yield* withWorker(scope, "setup-sandbox", 1, note, Effect.andThen(runner.enqueue(first), Queue.take(delivered)))
      const second = yield* withWorker(
        scope,
        "setup-sandbox",
        1,
        note,
        Effect.andThen(runner.enqueue(last), Queue.take(delivered))
      )
      assert.strictEqual(second, last.id)
    }),

  "a run whose work fails with TryAgain is delivered again": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      const delivered = yield* Queue.unbounded<RunId>()
      let attempts = 0
      yield* withWorker(
        scope,
        "setup-sandbox",
        2,
        ({ id }) =>
          Effect.andThen(Queue.offer(delivered, id), ++attempts < 3 ? new RetryLater({ after: soon }) : Effect.void),
        Effect.gen(function* () {
          yield* runner.enqueue(run)
          for (let i = 0; i < 3; i++) assert.strictEqual(yield* Queue.take(delivered), run.id)
        })
      )
    }),

  "a run whose work dies is delivered again, and its worker continues": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const [bad, good] = [runOf(scope, { task: "setup-sandbox" }), runOf(scope, { task: "setup-sandbox" })]
      const delivered = yield* Queue.unbounded<RunId>()
      let broken = false
      yield* withWorker(
        scope,
        "setup-sandbox",
        1,
        ({ id }) =>
          Effect.andThen(
            Queue.offer(delivered, id),
            Effect.suspend(() => {
              if (id !== bad.id || broken) return Effect.void
              broken = true
              return Effect.die(new Error("on purpose"))
            })
          ),
        Effect.gen(function* () {
          yield* runner.enqueue(bad)
          yield* runner.enqueue(good)
          const order = [yield* Queue.take(delivered), yield* Queue.take(delivered), yield* Queue.take(delivered)]
          assert.deepStrictEqual(order, [bad.id, good.id, bad.id])
        })
      )
    }),

  "a run whose worker stops is delivered to the next worker": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      const begun = yield* Deferred.make<void>()
      yield* runner.enqueue(run)
      const stuck = () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
      yield* withWorker(scope, "setup-sandbox", 1, stuck, Deferred.await(begun))
      const seen = yield* Deferred.make<RunId>()
      const id = yield* withWorker(
        scope,
        "setup-sandbox",
        1,
        ({ id }) => Effect.asVoid(Deferred.succeed(seen, id)),
        Deferred.await(seen)
      )
      assert.strictEqual(id, run.id)
    }),

  "a worker runs up to its concurrency at once, oldest run first": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const runs = Array.from({ length: 6 }, (_, createdAt) => runOf(scope, { task: "setup-sandbox", createdAt }))
      for (const run of runs) yield* runner.enqueue(run)
      const begun = yield* Queue.unbounded<RunId>()
      const leave = yield* Queue.unbounded<void>()
      let [now, most] = [0, 0]
      const work = ({ id }: TaskRun) =>
        Effect.gen(function* () {
          most = Math.max(most, ++now)
          yield* Queue.offer(begun, id)
          yield* Queue.take(leave)
          now--
        })
      yield* withWorker(
        scope,
        "setup-sandbox",
        2,
        work,
        Effect.gen(function* () {
          const order: Array<RunId> = []
          for (const _ of runs) {
            order.push(yield* Queue.take(begun))
            if (order.length >= 2) yield* Queue.offer(leave, undefined)
          }
          assert.deepStrictEqual(
            order,
            runs.map(({ id }) => id)
          )
          assert.strictEqual(most, 2)
          yield* Queue.offer(leave, undefined)
        })
      )
    }),

  "two workers share the runs of a task and never work on the same run at once": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const runs = Array.from({ length: 20 }, () => runOf(scope, { task: "setup-sandbox" }))
      const inWork = new Set<RunId>()
      const done = yield* Queue.unbounded<RunId>()
      const work = ({ id }: TaskRun) =>
        Effect.gen(function* () {
          assert.isFalse(inWork.has(id))
          inWork.add(id)
          yield* Effect.sleep(2)
          inWork.delete(id)
          yield* Queue.offer(done, id)
        })
      const all = Effect.gen(function* () {
        for (const run of runs) yield* runner.enqueue(run)
        const finished: Array<RunId> = []
        for (const _ of runs) finished.push(yield* Queue.take(done))
        return finished
      })
      const finished = yield* withWorker(
        scope,
        "setup-sandbox",
        5,
        work,
        withWorker(scope, "setup-sandbox", 5, work, all)
      )
      assert.deepStrictEqual(finished.toSorted(), runs.map(({ id }) => id).toSorted())
    }),

  "backlog counts the runs of each task that wait and can be worked on now": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const task = "session-lifecycle"
      const backlog = Effect.map(runner.backlog, (all) => all.find((one) => one.task === task))
      const finished = yield* Deferred.make<void>()
      let toDo = 2
      const worked = Effect.suspend(() => (--toDo === 0 ? Deferred.succeed(finished, undefined) : Effect.void))
      const drain = withWorker(scope, task, 1, () => Effect.void, Effect.sleep(soon))
      // Waits until the runs that other clauses left behind are done.
      const left = yield* Effect.repeat(Effect.andThen(drain, backlog), {
        until: (one) => one === undefined,
        times: 40
      })
      const before = left?.depth ?? 0
      yield* runner.enqueue(runOf(scope, { task, createdAt: 5000 }))
      yield* runner.enqueue(runOf(scope, { task, createdAt: 4000 }))
      const waiting = yield* backlog
      assert.strictEqual(waiting?.depth, before + 2)
      assert.strictEqual(waiting?.oldest.epochMilliseconds, 4000)
      const later = () => Effect.andThen(worked, new RetryLater({ after: Duration.hours(1) }))
      yield* withWorker(scope, task, 2, later, Effect.andThen(Deferred.await(finished), Effect.sleep(soon)))
      assert.strictEqual((yield* backlog)?.depth ?? 0, before)
    }),

  "ping succeeds": () => Effect.flatMap(TaskRunner, (runner) => runner.ping)
}

export const contract = <E>(subject: string, layer: Layer.Layer<Ports, E>) =>
  runContract("TaskRunner", subject, layer, { clauses })
