/** The promises of the store of runs and of the queue that carries them: two ports over the same rows. */
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import {
  advance,
  type RunChange,
  RunId,
  type RunStatus,
  type TaskName,
  TaskRun
} from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner, TryAgain } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { assert } from "@effect/vitest"
import { DateTime, Deferred, Duration, Effect, Exit, type Layer, Option, Queue, type Schema } from "effect"
import * as given from "../given.ts"
import { holds, type Promises } from "./holds.ts"
import { assertUntouched } from "./untouched.ts"

type Ports = TaskRunStore | TaskRunner | IdentityStore

const at = (millis: number) => DateTime.makeUnsafe(millis)

const runOf = (
  scope: AccountScope,
  more: {
    readonly task?: TaskName
    readonly createdAt?: number
    readonly input?: Schema.Json
    readonly sandbox?: SandboxName
  } = {}
) =>
  given.run(scope, {
    task: more.task ?? "session-lifecycle",
    ...(more.sandbox && { sandbox: more.sandbox }),
    input: more.input ?? { some: ["ünïcode \u0000 €", 1.5, null, { deep: true }] },
    at: at(more.createdAt ?? 1_700_000_000_123)
  })

const next = (run: TaskRun, status: RunStatus, change: RunChange = {}) =>
  Option.getOrThrow(advance(run, status, at(1_700_000_001_456), change))

/** Works on an account's runs of a task until the use is over; what other promises left behind is let pass. */
const working = <A, E>(
  scope: AccountScope,
  task: TaskName,
  concurrency: number,
  work: (run: TaskRun) => Effect.Effect<void, TryAgain>,
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

export const storePromises: Promises<Ports> = {
  "a run is found as it was written, by its account only": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const run = runOf(one)
      yield* (yield* TaskRunner).enqueue(run)
      assert.deepStrictEqual(yield* store.get(one, run.id), Option.some(run))
      const inSandbox = runOf(one, { sandbox: SandboxName.make("sbx_some") })
      yield* (yield* TaskRunner).enqueue(inSandbox)
      assert.deepStrictEqual(yield* store.get(one, inSandbox.id), Option.some(inSandbox))
      assert.isTrue(Option.isNone(yield* store.get(two, run.id)))
      assert.isTrue(Option.isNone(yield* store.get(one, RunId.make("run_none"))))
    }),

  "a run is saved with all that became of it": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      const run = runOf(scope)
      yield* (yield* TaskRunner).enqueue(run)
      const executing = next(run, "EXECUTING", { currentStep: "stép", log: "began" })
      assert.isTrue(yield* store.save(scope, executing))
      const failed = next(executing, "FAILED", {
        output: { stdout: "a\u0000b€" },
        error: { code: "broken", message: "it's broken" }
      })
      assert.isTrue(yield* store.save(scope, failed))
      assert.deepStrictEqual(yield* store.get(scope, run.id), Option.some(failed))
    }),

  "of two writes that know the same version one is refused": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      const run = runOf(scope)
      yield* (yield* TaskRunner).enqueue(run)
      const written = yield* Effect.all(
        [store.save(scope, next(run, "CANCELED")), store.save(scope, next(run, "EXECUTING"))],
        { concurrency: 2 }
      )
      assert.deepStrictEqual(written.toSorted(), [false, true])
      assert.isFalse(yield* store.save(scope, next(run, "EXECUTING")))
    }),

  "a run of another account is not saved": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const run = runOf(one)
      yield* (yield* TaskRunner).enqueue(run)
      assert.isFalse(yield* store.save(two, next(run, "CANCELED")))
      assert.deepStrictEqual(yield* store.get(one, run.id), Option.some(run))
    }),

  "a write leaves every other run as it is": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const runner = yield* TaskRunner
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [run, own, foreign] = [runOf(one), runOf(one), runOf(two)]
      for (const one of [run, own, foreign]) yield* runner.enqueue(one)
      const rows = { "another of the account": store.get(one, own.id), "another account's": store.get(two, foreign.id) }
      const executing = next(run, "EXECUTING")
      yield* assertUntouched(rows, {
        enqueue: runner.enqueue(runOf(one)),
        save: store.save(one, executing),
        "save of its end": store.save(one, next(executing, "COMPLETED", { output: "done" }))
      })
    }),

  "runs are listed newest first without their output, in pages that lose and repeat none": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const runner = yield* TaskRunner
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const times = [2, 1, 3, 3, 2]
      for (const createdAt of times) yield* runner.enqueue(runOf(scope, { createdAt }))
      yield* runner.enqueue(runOf(other, { createdAt: 2 }))
      const ended = runOf(scope, { createdAt: 9 })
      yield* runner.enqueue(ended)
      yield* store.save(scope, next(ended, "EXECUTING"))
      yield* store.save(scope, next(next(ended, "EXECUTING"), "COMPLETED", { output: "long" }))
      const read: Array<TaskRun> = []
      let cursor: Cursor | null = null
      do {
        const page: { rows: ReadonlyArray<TaskRun>; next: Cursor | null } = yield* store.list(scope, {
          limit: 2,
          cursor
        })
        read.push(...page.rows)
        cursor = page.next
      } while (cursor !== null)
      assert.deepStrictEqual(
        read.map(({ createdAt }) => createdAt.epochMilliseconds),
        [9, 3, 3, 2, 2, 1]
      )
      assert.strictEqual(new Set(read.map(({ id }) => id)).size, 6)
      assert.isTrue(read.every(({ output }) => output === null))
    }),

  "live in a sandbox are the account's runs that work there and have not ended, told without their logs": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const runner = yield* TaskRunner
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [sandbox, other] = ["sbx_live", "sbx_other"].map((name) => SandboxName.make(name))
      const inSandbox = (scope: AccountScope) => runOf(scope, { sandbox: sandbox! })
      const [waiting, working, trying] = [inSandbox(one), inSandbox(one), inSandbox(one)]
      for (const run of [waiting, working, trying, inSandbox(two), runOf(one), runOf(one, { sandbox: other! })]) {
        yield* runner.enqueue(run)
      }
      for (const status of ["COMPLETED", "FAILED", "TIMED_OUT", "CANCELED"] as const) {
        const ended = inSandbox(one)
        yield* runner.enqueue(ended)
        yield* store.save(one, next(ended, "EXECUTING"))
        yield* store.save(one, next(next(ended, "EXECUTING"), status))
      }
      const began = next(working, "EXECUTING", { currentStep: "first", log: "began" })
      const again = next(next(trying, "EXECUTING"), "REATTEMPTING", { log: "once more" })
      for (const run of [began, next(trying, "EXECUTING"), again]) assert.isTrue(yield* store.save(one, run))
      const withoutLogs = (run: TaskRun) => new TaskRun({ ...run, logs: [] })
      const live = yield* store.liveIn(one, sandbox!)
      assert.sameDeepMembers([...live], [waiting, began, again].map(withoutLogs))
      assert.deepStrictEqual(yield* store.liveIn(two, other!), [])
    }),

  "a cursor of a moment after every row gives the beginning": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      yield* (yield* TaskRunner).enqueue(runOf(scope))
      const beginning = yield* store.list(scope, { limit: 5, cursor: null })
      const cursor = Cursor.make("999999999999999_x")
      assert.deepStrictEqual(yield* store.list(scope, { limit: 5, cursor }), beginning)
    }),

  "a NUL in a text breaks nothing": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      const run = runOf(scope)
      yield* (yield* TaskRunner).enqueue(run)
      const failed = next(next(run, "EXECUTING"), "FAILED", {
        currentStep: "a\0b",
        log: "c\0d",
        error: { code: "\0", message: "\0" }
      })
      assert.isTrue(yield* store.save(scope, new TaskRun({ ...failed, version: 1 })))
      const found = Option.getOrThrow(yield* store.get(scope, run.id))
      const texts = [found.currentStep, found.logs[0]?.message, found.error]
      assert.deepStrictEqual(
        texts.map((text) => text?.replaceAll("\0", "\uFFFD")),
        ["a\uFFFDb", "c\uFFFDd", "\uFFFD"]
      )
    })
}

export const runnerPromises: Promises<Ports> = {
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
          Effect.andThen(Queue.offer(delivered, id), ++attempts < 3 ? new TryAgain({ after: soon }) : Effect.void),
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
      const later = () => Effect.andThen(worked, new TryAgain({ after: Duration.hours(1) }))
      yield* working(scope, task, 2, later, Effect.andThen(Deferred.await(finished), Effect.sleep(soon)))
      assert.strictEqual((yield* told)?.depth ?? 0, before)
    }),

  "the queue answers": () => Effect.flatMap(TaskRunner, (runner) => runner.ping)
}

export const contract = <E>(subject: string, layer: Layer.Layer<Ports, E>) => {
  holds("TaskRunStore", subject, layer, storePromises)
  holds("TaskRunner", subject, layer, runnerPromises)
}
