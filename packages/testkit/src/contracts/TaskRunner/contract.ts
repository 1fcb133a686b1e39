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

/** Works on an account's runs of a task until the use is over; what other promises left behind is let pass. */
const working = <A, E>(
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
  "a run is queued once, however often": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      yield* Effect.all([runner.enqueue(run), runner.enqueue(run), runner.enqueue(run)], { concurrency: 3 })
      const last = runOf(scope, { task: "setup-sandbox" })
      yield* runner.enqueue(last)
      const delivered = yield* Queue.unbounded<RunId>()
      yield* working(
        scope,
        "setup-sandbox",
        1,
        ({ id }) => Effect.asVoid(Queue.offer(delivered, id)),
        Effect.gen(function* () {
          assert.deepStrictEqual([yield* Queue.take(delivered), yield* Queue.take(delivered)], [run.id, last.id])
        })
      )
    }),

  "an id of another account is refused, and nothing is written or queued": () =>
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

  "a run is delivered as its row stands": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      yield* runner.enqueue(run)
      const canceled = next(run, "CANCELED")
      yield* store.save(scope, canceled)
      const seen = yield* Deferred.make<TaskRun>()
      const delivered = yield* working(
        scope,
        "setup-sandbox",
        1,
        (run) => Effect.asVoid(Deferred.succeed(seen, run)),
        Deferred.await(seen)
      )
      assert.deepStrictEqual(delivered, canceled)
    }),

  "a run is delivered to a worker that was there before it": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      const seen = yield* Deferred.make<RunId>()
      const use = Effect.andThen(runner.enqueue(run), Deferred.await(seen))
      const id = yield* working(scope, "setup-sandbox", 1, ({ id }) => Effect.asVoid(Deferred.succeed(seen, id)), use)
      assert.strictEqual(id, run.id)
    }),

  "work that succeeds is not delivered again": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const [first, last] = [runOf(scope, { task: "setup-sandbox" }), runOf(scope, { task: "setup-sandbox" })]
      const delivered = yield* Queue.unbounded<RunId>()
      const note = ({ id }: TaskRun) => Effect.asVoid(Queue.offer(delivered, id))
      yield* working(scope, "setup-sandbox", 1, note, Effect.andThen(runner.enqueue(first), Queue.take(delivered)))
      const second = yield* working(
        scope,
        "setup-sandbox",
        1,
        note,
        Effect.andThen(runner.enqueue(last), Queue.take(delivered))
      )
      assert.strictEqual(second, last.id)
    }),

  "work that asks to try again is delivered again": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      const delivered = yield* Queue.unbounded<RunId>()
      let attempts = 0
      yield* working(
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

  "work that breaks off is delivered again, and does not take the worker with it": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const [bad, good] = [runOf(scope, { task: "setup-sandbox" }), runOf(scope, { task: "setup-sandbox" })]
      const delivered = yield* Queue.unbounded<RunId>()
      let broken = false
      yield* working(
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

  "work whose worker stopped is delivered to the next": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const run = runOf(scope, { task: "setup-sandbox" })
      const begun = yield* Deferred.make<void>()
      yield* runner.enqueue(run)
      const stuck = () => Effect.andThen(Deferred.succeed(begun, undefined), Effect.never)
      yield* working(scope, "setup-sandbox", 1, stuck, Deferred.await(begun))
      const seen = yield* Deferred.make<RunId>()
      const id = yield* working(
        scope,
        "setup-sandbox",
        1,
        ({ id }) => Effect.asVoid(Deferred.succeed(seen, id)),
        Deferred.await(seen)
      )
      assert.strictEqual(id, run.id)
    }),

  "no more is worked on at once than was asked for, and the oldest comes first": () =>
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
      yield* working(
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

  "two workers share a task's runs and never work on one at the same time": () =>
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
      const finished = yield* working(scope, "setup-sandbox", 5, work, working(scope, "setup-sandbox", 5, work, all))
      assert.deepStrictEqual(finished.toSorted(), runs.map(({ id }) => id).toSorted())
    }),

  "what waits for a worker is told by task, as long as it could be worked on": () =>
    Effect.gen(function* () {
      const runner = yield* TaskRunner
      const scope = yield* given.scope
      const task = "session-lifecycle"
      const told = Effect.map(runner.backlog, (all) => all.find((one) => one.task === task))
      const finished = yield* Deferred.make<void>()
      let toDo = 2
      const worked = Effect.suspend(() => (--toDo === 0 ? Deferred.succeed(finished, undefined) : Effect.void))
      const letPass = working(scope, task, 1, () => Effect.void, Effect.sleep(soon))
      // What other promises left behind is of no matter here.
      const left = yield* Effect.repeat(Effect.andThen(letPass, told), { until: (one) => one === undefined, times: 40 })
      const before = left?.depth ?? 0
      yield* runner.enqueue(runOf(scope, { task, createdAt: 5000 }))
      yield* runner.enqueue(runOf(scope, { task, createdAt: 4000 }))
      const waiting = yield* told
      assert.strictEqual(waiting?.depth, before + 2)
      assert.strictEqual(waiting?.oldest.epochMilliseconds, 4000)
      const later = () => Effect.andThen(worked, new RetryLater({ after: Duration.hours(1) }))
      yield* working(scope, task, 2, later, Effect.andThen(Deferred.await(finished), Effect.sleep(soon)))
      assert.strictEqual((yield* told)?.depth ?? 0, before)
    }),

  "the queue answers": () => Effect.flatMap(TaskRunner, (runner) => runner.ping)
}

export const contract = <E>(subject: string, layer: Layer.Layer<Ports, E>) =>
  runContract("TaskRunner", subject, layer, { clauses })
