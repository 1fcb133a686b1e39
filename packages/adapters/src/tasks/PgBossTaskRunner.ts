/** The durable queue on pg-boss, in the database where the runs' rows are. */
import type { RunId, TaskName, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { silentAfter, TaskRunner, type TryAgain } from "@castellan/domain/task/TaskRunner.ts"
import { Cause, Duration, Effect, Exit, FiberMap, FiberSet, Latch, Layer, Option, Schedule } from "effect"
import { sql } from "kysely"
import { type ConstructorOptions, fromKysely, fromPglite, type Job, PgBoss } from "pg-boss"
import { Db, DatabaseUnavailable, type Engine, query } from "../postgres/Db.ts"
import { toRow, toRun } from "../postgres/PgTaskRunStore.ts"

/** What the queue carries; all else is in the run's row. */
interface Ticket {
  readonly run: RunId
}

/** How often a worker asks for work that another process queued, and says that its own is alive. */
const askEvery = Duration.seconds(2)
const aliveEvery = Duration.seconds(10)

/** How long a run whose worker failed without saying what to do waits for the next attempt. */
const afterDefect = Duration.seconds(1)

/** The id of no job. */
const nobody = "00000000-0000-0000-0000-000000000000"

/** Jobs taken at once. */
const batch = 100

const queueOptions = {
  heartbeatSeconds: Duration.toSeconds(silentAfter),
  // A run has a deadline of its own; the queue's must never be the shorter one.
  expireInSeconds: 24 * 60 * 60,
  // Attempts are counted in the run's row. To the queue an attempt is only a process that died.
  retryLimit: 1_000_000,
  retryDelay: 1,
  deleteAfterSeconds: 60 * 60
}

const databaseOf = (engine: Engine): NonNullable<ConstructorOptions["db"]> =>
  engine._tag === "PGlite"
    ? fromPglite(engine.pglite)
    : { executeSql: (text: string, values?: Array<unknown>) => engine.pool.query(text, values) }

const started = Effect.fnUntraced(function* (engine: Engine) {
  const boss = new PgBoss({
    db: databaseOf(engine),
    backend: engine._tag === "PGlite" ? "pglite" : "postgres",
    schema: "castellan_tasks",
    schedule: false,
    monitorIntervalSeconds: 10,
    persistWarnings: false,
    monitorVacuum: false
  })
  const context = yield* Effect.context()
  const log = (level: "Debug" | "Warn") => (event: unknown) =>
    void Effect.runForkWith(context)(Effect.logWithLevel(level)("the task queue", event))
  boss.on("error", log("Warn"))
  boss.on("warning", log("Debug"))
  yield* Effect.acquireRelease(
    Effect.tryPromise({
      try: () => boss.start(),
      catch: (cause) => new DatabaseUnavailable({ message: `The task queue can't be prepared: ${String(cause)}` })
    }),
    () => Effect.ignore(Effect.tryPromise(() => boss.stop({ graceful: false })))
  )
  return boss
})

/** In a database of its own, what is active at the start was left by a process that is gone. */
const takeBack = (kysely: Db["Service"]["kysely"]) =>
  query(() =>
    sql`
      update castellan_tasks.job set state = 'retry', start_after = now(), heartbeat_on = null
      where state = 'active'`.execute(kysely)
  )

export const layer: Layer.Layer<TaskRunner, DatabaseUnavailable, Db> = Layer.effect(
  TaskRunner,
  Effect.gen(function* () {
    const { engine, kysely } = yield* Db
    const boss = yield* started(engine)
    if (engine._tag === "PGlite") yield* takeBack(kysely)
    const wakes = new Map<TaskName, Latch.Latch>()
    const queues = new Map<TaskName, Effect.Effect<void>>()

    /** Sees to it that there is a queue for the task, once. */
    const prepared = (task: TaskName) =>
      Effect.suspend(() => {
        const known = queues.get(task)
        if (known !== undefined) return known
        const make = query(async () => {
          await boss.createQueue(task, queueOptions)
          // pg-boss looks a queue up at its first use, by a connection of its own. PGlite has but one, and a first use
          // within our transaction would wait for that transaction to end: so the first use is here.
          await boss.touch(task, nobody)
        })
        const once = Effect.runSync(Effect.cached(make))
        queues.set(task, once)
        return once
      })

    const wake = (task: TaskName) => Effect.suspend(() => wakes.get(task)?.open ?? Effect.void)

    const enqueue = Effect.fn("PgBossTaskRunner.enqueue")(function* (run: TaskRun) {
      yield* prepared(run.task)
      yield* query(() =>
        kysely.transaction().execute(async (transaction) => {
          const added = await transaction
            .insertInto("task_runs")
            .values(toRow(run))
            .onConflict((conflict) => conflict.column("id").doNothing())
            .returning("id")
            .execute()
          if (added.length > 0) {
            await boss.send(run.task, { run: run.id } satisfies Ticket, { db: fromKysely(transaction) })
            return
          }
          const { account_id } = await transaction
            .selectFrom("task_runs")
            .select("account_id")
            .where("id", "=", run.id)
            .executeTakeFirstOrThrow()
          if (account_id !== run.account) throw new Error("a run's id is another account's")
        })
      )
      yield* wake(run.task)
    })

    const rowsOf = (jobs: ReadonlyArray<Job<Ticket>>) =>
      Effect.map(
        query(() =>
          kysely
            .selectFrom("task_runs")
            .selectAll()
            .where(
              "id",
              "in",
              jobs.map(({ data }) => data.run)
            )
            .execute()
        ),
        (rows) => new Map(rows.map((row) => [row.id, toRun(row)]))
      )

    /** The ticket for the next attempt takes the place of this one's, in one transaction. */
    const again = (task: TaskName, job: Job<Ticket>, after: Duration.Duration) =>
      query(() =>
        kysely.transaction().execute(async (transaction) => {
          const db = fromKysely(transaction)
          const startAfter = new Date(Date.now() + Duration.toMillis(after))
          await boss.send(task, job.data, { db, startAfter })
          await boss.complete(task, job.id, null, { db })
        })
      )

    const process = Effect.fn("PgBossTaskRunner.process")(function* (
      task: TaskName,
      { concurrency }: { readonly concurrency: number },
      work: (run: TaskRun) => Effect.Effect<void, TryAgain>
    ) {
      yield* prepared(task)
      const latch = yield* Latch.make(true)
      wakes.set(task, latch)
      const working = yield* FiberMap.make<string>()
      const waiting = yield* FiberSet.make()
      const finished: Array<string> = []

      const deliver = Effect.fnUntraced(function* (job: Job<Ticket>, run: TaskRun | undefined) {
        const exit = run === undefined ? Exit.void : yield* Effect.exit(work(run))
        if (Exit.isSuccess(exit)) {
          finished.push(job.id)
        } else {
          const failure = Cause.findErrorOption(exit.cause)
          if (Option.isNone(failure)) yield* Effect.logError("a task broke off", exit.cause)
          const after = Option.match(failure, { onNone: () => afterDefect, onSome: (again) => again.after })
          yield* again(task, job, after)
          yield* FiberSet.run(waiting, Effect.andThen(Effect.sleep(after), latch.open))
        }
        yield* latch.open
      })

      /** Reports what is done, then takes as much as there is room for; tells whether there may be more. */
      const round = Effect.gen(function* () {
        const done = finished.splice(0)
        if (done.length > 0) yield* query(() => boss.complete(task, done))
        const room = Math.min(batch, concurrency - (yield* FiberMap.size(working)))
        if (room <= 0) return false
        const jobs = yield* query(() => boss.fetch<Ticket>(task, { batchSize: room }))
        if (jobs.length === 0) return false
        const rows = yield* rowsOf(jobs)
        const age = ({ data }: Job<Ticket>) => rows.get(data.run)?.createdAt.epochMilliseconds ?? 0
        for (const job of jobs.toSorted((a, b) => age(a) - age(b))) {
          yield* FiberMap.run(working, job.id, deliver(job, rows.get(job.data.run)))
        }
        return jobs.length === room
      })

      const loop = Effect.gen(function* () {
        yield* latch.close
        const more = yield* round
        if (!more && finished.length === 0) yield* Effect.timeoutOption(latch.await, askEvery)
      }).pipe(
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.failCause(cause)
            : Effect.andThen(Effect.logWarning("the task queue could not be asked", cause), Effect.sleep(askEvery))
        ),
        Effect.forever
      )

      const alive = Effect.gen(function* () {
        const ids = Array.from(working, ([id]) => id)
        if (ids.length > 0) yield* query(() => boss.touch(task, ids))
      }).pipe(
        Effect.catchCause((cause) => Effect.logWarning("the task queue could not be told that work goes on", cause)),
        Effect.repeat(Schedule.spaced(aliveEvery))
      )

      // What was done is reported, and what was not is given back, so that nobody waits for it to fall silent.
      yield* Effect.addFinalizer(() =>
        Effect.gen(function* () {
          const unfinished = Array.from(working, ([id]) => id)
          yield* FiberMap.clear(working)
          const done = finished.splice(0)
          const given = unfinished.filter((id) => !done.includes(id))
          if (done.length > 0) yield* query(() => boss.complete(task, done))
          if (given.length > 0) yield* query(() => boss.fail(task, given))
        }).pipe(Effect.ignoreCause)
      )
      yield* Effect.forkScoped(alive)
      yield* Effect.forkScoped(loop)
    })

    return TaskRunner.of({
      enqueue,
      process,
      ping: Effect.asVoid(query(() => sql`select 1 from castellan_tasks.version`.execute(kysely)))
    })
  })
)
