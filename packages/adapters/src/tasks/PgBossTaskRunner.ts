/** The durable queue on pg-boss, in the database where the runs' rows are. */
import { annotateIds } from "@castellan/domain/Metrics.ts"
import type { TaskName, TaskRun } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner, type RetryLater } from "@castellan/domain/task/TaskRunner.ts"
import { Cause, DateTime, Duration, Effect, Exit, FiberMap, FiberSet, Latch, Layer, Option, Schedule } from "effect"
import { sql } from "kysely"
import { fromKysely, type Job } from "pg-boss"
import { Db, type DatabaseNotReady, query } from "../postgres/Db.ts"
import { toRow, toRun } from "../postgres/stores/PgTaskRunStore.ts"
import { heartbeatInterval, start, type Ticket } from "./TaskQueue.ts"

type TicketJob = Job<Ticket>

/** How often a worker asks for work that another process queued. */
const askEvery = Duration.seconds(2)

/** How long a run whose worker failed without saying what to do waits for the next attempt. */
const afterDefect = Duration.seconds(1)

/** Jobs taken at once. */
const batch = 100

export const layer: Layer.Layer<TaskRunner, DatabaseNotReady, Db> = Layer.effect(
  TaskRunner,
  Effect.gen(function* () {
    const db = yield* Db
    const { kysely } = db
    const boss = yield* start(db)
    const wakes = new Map<Latch.Latch, TaskName>()

    const wake = (task: TaskName) =>
      Effect.forEach(wakes, ([latch, its]) => (its === task ? latch.open : Effect.void), { discard: true })

    const enqueue = Effect.fn("PgBossTaskRunner.enqueue")(function* (run: TaskRun) {
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

    const rowsOf = (jobs: ReadonlyArray<TicketJob>) =>
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

    /** The ticket for the next attempt takes the place of this one's, unless another worker has that by now. */
    const again = (task: TaskName, job: TicketJob, after: Duration.Duration) =>
      query(() =>
        kysely.transaction().execute(async (transaction) => {
          const db = fromKysely(transaction)
          // In seconds from now: which moment that is, the database's clock says, by which it is compared.
          const startAfter = Duration.toSeconds(after)
          if (settled(await boss.complete(task, job, null, { db })).length === 0) return
          await boss.send(task, job.data, { db, startAfter })
        })
      )

    const process = Effect.fn("PgBossTaskRunner.process")(function* (
      task: TaskName,
      { concurrency }: { readonly concurrency: number },
      work: (run: TaskRun) => Effect.Effect<void, RetryLater>
    ) {
      const latch = yield* Latch.make(true)
      const working = yield* FiberMap.make<string>()
      const waiting = yield* FiberSet.make()
      /** The jobs that are this worker's until the queue knows what became of them. */
      const held = new Map<string, TicketJob>()
      /** Those of them whose work succeeded. */
      const finished = new Set<TicketJob>()
      let closing = false

      const isHeld = (job: TicketJob) => held.get(job.id) === job
      const letGo = (jobs: Iterable<TicketJob>) => {
        for (const job of jobs) {
          finished.delete(job)
          if (isHeld(job)) held.delete(job.id)
        }
      }

      const claim = (room: number) =>
        Effect.uninterruptible(
          Effect.tap(
            query(() => boss.fetch<Ticket>(task, { batchSize: room })),
            (jobs) => Effect.sync(() => jobs.forEach((job) => held.set(job.id, job)))
          )
        )

      const report = Effect.suspend(() => {
        const done = [...finished]
        if (done.length === 0) return Effect.void
        return Effect.tap(
          query(() => boss.complete(task, done)),
          () => Effect.sync(() => letGo(done))
        )
      }).pipe(Effect.uninterruptible)

      const giveBack = (jobs: ReadonlyArray<TicketJob>) =>
        jobs.length === 0
          ? Effect.void
          : query(() => boss.fail(task, [...jobs])).pipe(
              Effect.ignoreCause,
              Effect.ensuring(Effect.sync(() => letGo(jobs)))
            )

      const tryAgain = Effect.fnUntraced(function* (job: TicketJob, cause: Cause.Cause<RetryLater>) {
        const failure = Cause.findErrorOption(cause)
        if (Option.isNone(failure)) yield* Effect.logError("a task broke off", cause)
        const after = Option.match(failure, { onNone: () => afterDefect, onSome: (again) => again.after })
        yield* again(task, job, after).pipe(
          Effect.catchCause((cause) => Effect.logWarning("a run waits until its worker counts as silent", cause)),
          Effect.ensuring(Effect.sync(() => letGo([job])))
        )
        yield* FiberSet.run(waiting, Effect.andThen(Effect.sleep(after), latch.open))
      })

      const worked = (run: TaskRun) =>
        work(run).pipe(
          Effect.withSpan("TaskRunner.work"),
          annotateIds({
            task,
            run: run.id,
            account: run.account,
            ...(run.sandbox === null ? {} : { sandbox: run.sandbox })
          })
        )

      const deliver = (job: TicketJob, run: TaskRun | undefined) =>
        Effect.uninterruptibleMask((restore) =>
          Effect.gen(function* () {
            const exit = run === undefined ? Exit.void : yield* Effect.exit(restore(worked(run)))
            if (!isHeld(job)) return
            if (Exit.isSuccess(exit)) finished.add(job)
            else if (!(closing && Cause.hasInterruptsOnly(exit.cause))) yield* tryAgain(job, exit.cause)
            yield* latch.open
          })
        )

      /** Reports what is done, then takes as much as there is room for; tells whether there may be more. */
      const round = Effect.gen(function* () {
        yield* report
        const room = Math.min(batch, concurrency - (held.size - finished.size))
        if (room <= 0) return false
        const jobs = yield* claim(room)
        if (jobs.length === 0) return false
        const rows = yield* Effect.onError(rowsOf(jobs), () => giveBack(jobs))
        const age = ({ data }: TicketJob) => rows.get(data.run)?.createdAt.epochMilliseconds ?? 0
        for (const job of jobs.toSorted((a, b) => age(a) - age(b))) {
          yield* FiberMap.run(working, job.id, deliver(job, rows.get(job.data.run)))
        }
        return jobs.length === room
      })

      const loop = Effect.gen(function* () {
        yield* latch.close
        const more = yield* round
        if (!more && finished.size === 0) yield* Effect.timeoutOption(latch.await, askEvery)
      }).pipe(
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.failCause(cause)
            : Effect.andThen(Effect.logWarning("the task queue could not be asked", cause), Effect.sleep(askEvery))
        ),
        Effect.forever
      )

      /** Says that the held jobs are alive, and breaks off those that another worker was given meanwhile. */
      const alive = Effect.gen(function* () {
        const jobs = [...held.values()]
        if (jobs.length === 0) return
        const known = new Set(settled(yield* query(() => boss.touch(task, jobs))))
        for (const job of jobs.filter((job) => !known.has(job.id) && isHeld(job) && !finished.has(job))) {
          letGo([job])
          yield* Effect.logWarning("a run fell silent and was given to another worker", job.data)
          Option.map(FiberMap.getUnsafe(working, job.id), (fiber) => fiber.interruptUnsafe())
        }
      }).pipe(
        Effect.catchCause((cause) => Effect.logWarning("the task queue could not be told that work goes on", cause)),
        Effect.repeat(Schedule.spaced(heartbeatInterval))
      )

      // Scopes close in reverse: no more is taken, then what was done is reported and what was not is given back, so
      // that nobody waits for it to fall silent; until then it counts as alive.
      yield* Effect.forkScoped(alive)
      yield* Effect.addFinalizer(() =>
        Effect.gen(function* () {
          closing = true
          wakes.delete(latch)
          yield* FiberMap.clear(working)
          yield* Effect.ignoreCause(report)
          yield* giveBack([...held.values()])
          yield* wake(task)
        })
      )
      wakes.set(latch, task)
      yield* Effect.forkScoped(loop)
    })

    return TaskRunner.of({
      enqueue,
      process,
      backlog: Effect.map(
        query(() =>
          sql<{ task: TaskName; depth: number; oldest: Date }>`
            select job.name as task, count(*)::integer as depth, min(run.created_at) as oldest
            from castellan_tasks.job as job join task_runs as run on run.id = job.data ->> 'run'
            where job.state in ('created', 'retry') and job.start_after <= now()
            group by job.name`.execute(kysely)
        ),
        ({ rows }) => rows.map(({ oldest, ...row }) => ({ ...row, oldest: DateTime.makeUnsafe(oldest) }))
      ),
      ping: Effect.asVoid(query(() => sql`select 1 from castellan_tasks.version`.execute(kysely)))
    })
  })
)

/** The jobs that a statement still found to be those it was asked about. */
const settled = (response: object): ReadonlyArray<string> =>
  (response as { readonly settled?: ReadonlyArray<string> | null }).settled ?? []
