/** Runs tasks from a durable queue, pg-boss, in the database that has the rows of the runs. */
import { annotateIds } from "@castellan/domain/Metrics.ts"
import type { TaskName, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner, type RetryLater } from "@castellan/domain/task/TaskRunner.ts"
import { Cause, DateTime, Duration, Effect, Exit, FiberMap, FiberSet, Latch, Layer, Option, Schedule } from "effect"
import { sql } from "kysely"
import { fromKysely, type Job, type PgBoss } from "pg-boss"
import { Db, type DatabaseNotReady, query } from "../postgres/Db.ts"
import { toRow, toRun } from "../postgres/stores/PgTaskRunStore.ts"
import { heartbeatInterval, start, type Ticket } from "./TaskQueue.ts"

type TicketJob = Job<Ticket>

type Kysely = Db["Service"]["kysely"]

/** How often a worker polls for runs that another process queued. */
const pollInterval = Duration.seconds(2)

/** The delay before the next attempt of a run whose worker died of a defect. */
const delayAfterDefect = Duration.seconds(1)

/** The most jobs that are claimed at once. */
const maxBatch = 100

/** The ids of the jobs that a statement of pg-boss still found in the expected state. */
const settledIds = (response: object): ReadonlyArray<string> =>
  (response as { readonly settled?: ReadonlyArray<string> | null }).settled ?? []

/** Inserts the run's row and its job in one transaction. Does nothing if the run exists. */
const insertRun = (kysely: Kysely, boss: PgBoss, run: TaskRun) =>
  query(() =>
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
      if (account_id !== run.account) throw new Error("the id of the run belongs to another account")
    })
  )

const loadRuns = (kysely: Kysely, jobs: ReadonlyArray<TicketJob>) => {
  const ids = jobs.map(({ data }) => data.run)
  return Effect.map(
    query(() => kysely.selectFrom("task_runs").selectAll().where("id", "in", ids).execute()),
    (rows) => new Map(rows.map((row) => [row.id, toRun(row)]))
  )
}

/** Replaces a job by one for the next attempt, unless another worker has claimed the job meanwhile. */
const requeue = (kysely: Kysely, boss: PgBoss, task: TaskName, job: TicketJob, after: Duration.Duration) =>
  query(() =>
    kysely.transaction().execute(async (transaction) => {
      const db = fromKysely(transaction)
      // Seconds from now, because the database's clock decides when a job is due.
      const startAfter = Duration.toSeconds(after)
      if (settledIds(await boss.complete(task, job, null, { db })).length === 0) return
      await boss.send(task, job.data, { db, startAfter })
    })
  )

/** The jobs that a worker has claimed and whose outcome the queue does not know yet. */
class ClaimedJobs {
  readonly #jobs = new Map<string, TicketJob>()
  readonly #succeeded = new Set<TicketJob>()

  /** Jobs whose run still executes. */
  get running(): number {
    return this.#jobs.size - this.#succeeded.size
  }

  get all(): ReadonlyArray<TicketJob> {
    return [...this.#jobs.values()]
  }

  get succeeded(): ReadonlyArray<TicketJob> {
    return [...this.#succeeded]
  }

  add(jobs: ReadonlyArray<TicketJob>): void {
    for (const job of jobs) this.#jobs.set(job.id, job)
  }

  has(job: TicketJob): boolean {
    return this.#jobs.get(job.id) === job
  }

  markSucceeded(job: TicketJob): void {
    this.#succeeded.add(job)
  }

  hasSucceeded(job: TicketJob): boolean {
    return this.#succeeded.has(job)
  }

  release(jobs: ReadonlyArray<TicketJob>): void {
    for (const job of jobs) {
      this.#succeeded.delete(job)
      if (this.has(job)) this.#jobs.delete(job.id)
    }
  }
}

/** Claims, reports and returns the jobs of one task. */
const makeClaims = (boss: PgBoss, task: TaskName) => {
  const claimed = new ClaimedJobs()

  const claim = (limit: number) =>
    Effect.uninterruptible(
      Effect.tap(
        query(() => boss.fetch<Ticket>(task, { batchSize: limit })),
        (jobs) => Effect.sync(() => claimed.add(jobs))
      )
    )

  const reportSucceeded = Effect.suspend(() => {
    const jobs = claimed.succeeded
    if (jobs.length === 0) return Effect.void
    return Effect.tap(
      query(() => boss.complete(task, [...jobs])),
      () => Effect.sync(() => claimed.release(jobs))
    )
  }).pipe(Effect.uninterruptible)

  /** Makes jobs available to other workers. */
  const returnJobs = (jobs: ReadonlyArray<TicketJob>) =>
    jobs.length === 0
      ? Effect.void
      : query(() => boss.fail(task, [...jobs])).pipe(
          Effect.ignoreCause,
          Effect.ensuring(Effect.sync(() => claimed.release(jobs)))
        )

  /** Sends heartbeats, and interrupts the runs whose job another worker has claimed. */
  const heartbeat = (interrupt: (job: TicketJob) => void) =>
    Effect.gen(function* () {
      const jobs = claimed.all
      if (jobs.length === 0) return
      const alive = new Set(settledIds(yield* query(() => boss.touch(task, [...jobs]))))
      for (const job of jobs) {
        if (alive.has(job.id) || !claimed.has(job) || claimed.hasSucceeded(job)) continue
        claimed.release([job])
        yield* Effect.logWarning("Lost run to another worker after missed heartbeats", job.data)
        interrupt(job)
      }
    }).pipe(
      Effect.catchCause((cause) => Effect.logWarning("Failed to send heartbeats to the task queue", cause)),
      Effect.repeat(Schedule.spaced(heartbeatInterval))
    )

  return { claimed, claim, reportSucceeded, returnJobs, heartbeat }
}

const traced = (run: TaskRun, work: Effect.Effect<void, RetryLater>) =>
  work.pipe(
    Effect.withSpan("TaskRunner.work"),
    annotateIds({
      task: run.task,
      run: run.id,
      account: run.account,
      ...(run.sandbox === null ? {} : { sandbox: run.sandbox })
    })
  )

/** Works on the runs of one task until the scope closes. `wakeOthers` makes other workers of this process poll. */
const startWorker = Effect.fnUntraced(function* (
  { boss, kysely }: { readonly boss: PgBoss; readonly kysely: Kysely },
  task: TaskName,
  concurrency: number,
  work: (run: TaskRun) => Effect.Effect<void, RetryLater>,
  wakes: Map<Latch.Latch, TaskName>,
  wakeOthers: Effect.Effect<void>
) {
  const wake = yield* Latch.make(true)
  const working = yield* FiberMap.make<string>()
  const timers = yield* FiberSet.make()
  const { claim, claimed, heartbeat, reportSucceeded, returnJobs } = makeClaims(boss, task)
  let isClosing = false

  const retry = Effect.fnUntraced(function* (job: TicketJob, cause: Cause.Cause<RetryLater>) {
    const failure = Cause.findErrorOption(cause)
    if (Option.isNone(failure)) yield* Effect.logError("Task failed with a defect", cause)
    const after = Option.match(failure, { onNone: () => delayAfterDefect, onSome: (again) => again.after })
    yield* requeue(kysely, boss, task, job, after).pipe(
      // Without heartbeats the queue gives the job to another worker.
      Effect.catchCause((cause) => Effect.logWarning("Failed to requeue run", cause)),
      Effect.ensuring(Effect.sync(() => claimed.release([job])))
    )
    yield* FiberSet.run(timers, Effect.andThen(Effect.sleep(after), wake.open))
  })

  const execute = (job: TicketJob, run: TaskRun | undefined) =>
    Effect.uninterruptibleMask((restore) =>
      Effect.gen(function* () {
        const exit = run === undefined ? Exit.void : yield* Effect.exit(restore(traced(run, work(run))))
        if (!claimed.has(job)) return
        if (Exit.isSuccess(exit)) claimed.markSucceeded(job)
        else if (!(isClosing && Cause.hasInterruptsOnly(exit.cause))) yield* retry(job, exit.cause)
        yield* wake.open
      })
    )

  /** Reports succeeded runs and starts new ones up to the concurrency. Returns whether more may be queued. */
  const pollOnce = Effect.gen(function* () {
    yield* reportSucceeded
    const capacity = Math.min(maxBatch, concurrency - claimed.running)
    if (capacity <= 0) return false
    const jobs = yield* claim(capacity)
    if (jobs.length === 0) return false
    const runs = yield* Effect.onError(loadRuns(kysely, jobs), () => returnJobs(jobs))
    const createdAt = ({ data }: TicketJob) => runs.get(data.run)?.createdAt.epochMilliseconds ?? 0
    for (const job of jobs.toSorted((a, b) => createdAt(a) - createdAt(b))) {
      yield* FiberMap.run(working, job.id, execute(job, runs.get(job.data.run)))
    }
    return jobs.length === capacity
  })

  const poll = Effect.gen(function* () {
    yield* wake.close
    const hasMore = yield* pollOnce
    if (!hasMore && claimed.succeeded.length === 0) yield* Effect.timeoutOption(wake.await, pollInterval)
  }).pipe(
    Effect.catchCause((cause) =>
      Cause.hasInterruptsOnly(cause)
        ? Effect.failCause(cause)
        : Effect.andThen(Effect.logWarning("Failed to poll the task queue", cause), Effect.sleep(pollInterval))
    ),
    Effect.forever
  )

  const shutDown = Effect.gen(function* () {
    isClosing = true
    wakes.delete(wake)
    yield* FiberMap.clear(working)
    yield* Effect.ignoreCause(reportSucceeded)
    yield* returnJobs(claimed.all)
    yield* wakeOthers
  })

  // Scopes close in reverse: polling ends, then finished runs are reported and the others returned at once, so that no
  // other worker has to wait for missed heartbeats. Heartbeats end last.
  yield* Effect.forkScoped(
    heartbeat((job) => Option.map(FiberMap.getUnsafe(working, job.id), (fiber) => fiber.interruptUnsafe()))
  )
  yield* Effect.addFinalizer(() => shutDown)
  wakes.set(wake, task)
  yield* Effect.forkScoped(poll)
})

const backlog = (kysely: Kysely) =>
  Effect.map(
    query(() =>
      sql<{ task: TaskName; depth: number; oldest: Date }>`
        select job.name as task, count(*)::integer as depth, min(run.created_at) as oldest
        from castellan_tasks.job as job join task_runs as run on run.id = job.data ->> 'run'
        where job.state in ('created', 'retry') and job.start_after <= now()
        group by job.name`.execute(kysely)
    ),
    ({ rows }) => rows.map(({ oldest, ...row }) => ({ ...row, oldest: DateTime.makeUnsafe(oldest) }))
  )

export const layer: Layer.Layer<TaskRunner, DatabaseNotReady, Db> = Layer.effect(
  TaskRunner,
  Effect.gen(function* () {
    const db = yield* Db
    const { kysely } = db
    const boss = yield* start(db)
    /** Each worker of this process by the latch that makes it poll at once. */
    const wakes = new Map<Latch.Latch, TaskName>()

    const wakeWorkers = (task: TaskName) =>
      Effect.forEach(wakes, ([latch, its]) => (its === task ? latch.open : Effect.void), { discard: true })

    return TaskRunner.of({
      enqueue: Effect.fn("PgBossTaskRunner.enqueue")(function* (run: TaskRun) {
        yield* insertRun(kysely, boss, run)
        yield* wakeWorkers(run.task)
      }),
      process: Effect.fn("PgBossTaskRunner.process")((task, { concurrency }, work) =>
        startWorker({ boss, kysely }, task, concurrency, work, wakes, wakeWorkers(task))
      ),
      backlog: backlog(kysely),
      ping: Effect.asVoid(query(() => sql`select 1 from castellan_tasks.version`.execute(kysely)))
    })
  })
)
