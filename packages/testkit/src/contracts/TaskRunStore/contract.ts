/** The contract of TaskRunStore: what every store of task runs guarantees. */
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { Cursor } from "@castellan/domain/Page.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { RunId, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { assert } from "@effect/vitest"
import { Effect, type Layer, Option } from "effect"
import * as given from "../../given.ts"
import { assertUnchanged } from "../assertUnchanged.ts"

import { type Clauses, runContract } from "../contract.ts"
import { next, type Ports, runOf } from "./fixtures.ts"

export const clauses: Clauses<Ports> = {
  "a run is found as it was enqueued, by its account only": () =>
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

  "a run is saved with its status, log, output and error": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      const run = runOf(scope)
      yield* (yield* TaskRunner).enqueue(run)
      const executing = next(run, "EXECUTING", { currentStep: "stép", log: "began" })
      assert.isTrue(yield* store.compareAndSet(scope, executing))
      const failed = next(executing, "FAILED", {
        output: { stdout: "a\u0000b€" },
        error: { code: "broken", message: "it's broken" }
      })
      assert.isTrue(yield* store.compareAndSet(scope, failed))
      assert.deepStrictEqual(yield* store.get(scope, run.id), Option.some(failed.after))
    }),

  "one of two concurrent writes from the same version is refused": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      const run = runOf(scope)
      yield* (yield* TaskRunner).enqueue(run)
      const written = yield* Effect.all(
        [store.compareAndSet(scope, next(run, "CANCELED")), store.compareAndSet(scope, next(run, "EXECUTING"))],
        { concurrency: 2 }
      )
      assert.deepStrictEqual(written.toSorted(), [false, true])
      assert.isFalse(yield* store.compareAndSet(scope, next(run, "EXECUTING")))
    }),

  "a run of another account is not saved": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const [one, two] = [yield* given.scope, yield* given.scope]
      const run = runOf(one)
      yield* (yield* TaskRunner).enqueue(run)
      assert.isFalse(yield* store.compareAndSet(two, next(run, "CANCELED")))
      assert.deepStrictEqual(yield* store.get(one, run.id), Option.some(run))
    }),

  "a write does not change any other run": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const runner = yield* TaskRunner
      const [one, two] = [yield* given.scope, yield* given.scope]
      const [run, own, foreign] = [runOf(one), runOf(one), runOf(two)]
      for (const one of [run, own, foreign]) yield* runner.enqueue(one)
      const rows = { "another of the account": store.get(one, own.id), "another account's": store.get(two, foreign.id) }
      const executing = next(run, "EXECUTING")
      yield* assertUnchanged(rows, {
        enqueue: runner.enqueue(runOf(one)),
        save: store.compareAndSet(one, executing),
        "save of its end": store.compareAndSet(one, next(executing, "COMPLETED", { output: "done" }))
      })
    }),

  "runs are listed newest first without their output, in pages that have every run once": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const runner = yield* TaskRunner
      const [scope, other] = [yield* given.scope, yield* given.scope]
      const times = [2, 1, 3, 3, 2]
      for (const createdAt of times) yield* runner.enqueue(runOf(scope, { createdAt }))
      yield* runner.enqueue(runOf(other, { createdAt: 2 }))
      const ended = runOf(scope, { createdAt: 9 })
      yield* runner.enqueue(ended)
      yield* store.compareAndSet(scope, next(ended, "EXECUTING"))
      yield* store.compareAndSet(scope, next(next(ended, "EXECUTING"), "COMPLETED", { output: "long" }))
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

  "liveIn returns the account's runs in a sandbox that have not ended, without their logs": () =>
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
        yield* store.compareAndSet(one, next(ended, "EXECUTING"))
        yield* store.compareAndSet(one, next(next(ended, "EXECUTING"), status))
      }
      const began = next(working, "EXECUTING", { currentStep: "first", log: "began" })
      const again = next(next(trying, "EXECUTING"), "REATTEMPTING", { log: "once more" })
      for (const run of [began, next(trying, "EXECUTING"), again]) assert.isTrue(yield* store.compareAndSet(one, run))
      const withoutLogs = (run: TaskRun) => new TaskRun({ ...run, logs: [] })
      const live = yield* store.liveIn(one, sandbox!)
      assert.sameDeepMembers([...live], [waiting, began.after, again.after].map(withoutLogs))
      assert.deepStrictEqual(yield* store.liveIn(two, other!), [])
    }),

  "a cursor later than every row returns the first page": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      yield* (yield* TaskRunner).enqueue(runOf(scope))
      const beginning = yield* store.list(scope, { limit: 5, cursor: null })
      const cursor = Cursor.make("999999999999999_x")
      assert.deepStrictEqual(yield* store.list(scope, { limit: 5, cursor }), beginning)
    }),

  "a text with a NUL character can be written": () =>
    Effect.gen(function* () {
      const store = yield* TaskRunStore
      const scope = yield* given.scope
      const run = runOf(scope)
      yield* (yield* TaskRunner).enqueue(run)
      const executing = next(run, "EXECUTING")
      assert.isTrue(yield* store.compareAndSet(scope, executing))
      const failed = next(executing, "FAILED", {
        currentStep: "a\0b",
        log: "c\0d",
        error: { code: "\0", message: "\0" }
      })
      assert.isTrue(yield* store.compareAndSet(scope, failed))
      const found = Option.getOrThrow(yield* store.get(scope, run.id))
      const texts = [found.currentStep, found.logs[0]?.message, found.error]
      assert.deepStrictEqual(
        texts.map((text) => text?.replaceAll("\0", "\uFFFD")),
        ["a\uFFFDb", "c\uFFFDd", "\uFFFD"]
      )
    })
}

export const contract = <E>(subject: string, layer: Layer.Layer<Ports, E>) =>
  runContract("TaskRunStore", subject, layer, { clauses })
