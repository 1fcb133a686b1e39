/** Configures pg-boss: in the database of the stores, with a queue for each task. */
import { TaskName } from "@castellan/domain/task/TaskRun.ts"
import { heartbeatTimeout } from "@castellan/domain/task/TaskRunner.ts"
import { Duration, Effect } from "effect"
import { sql } from "kysely"
import { type ConstructorOptions, fromPglite, PgBoss, type QueueOptions } from "pg-boss"
import { type Db, DatabaseNotReady, type Engine } from "../postgres/Db.ts"

/** The payload of a job. Everything else is in the run's row. */
export interface Ticket {
  readonly run: string
}

/** How often a worker sends heartbeats for its runs, and how often pg-boss looks for jobs without one. */
export const heartbeatInterval = Duration.seconds(5)

const seconds = (duration: Duration.Input) => Math.floor(Duration.toSeconds(duration))

const queueOptions: QueueOptions = {
  // The difference covers the time until pg-boss looks for silent jobs and until the next worker polls.
  heartbeatSeconds: seconds(heartbeatTimeout) - 2 * seconds(heartbeatInterval),
  // A run has its own deadline, so the queue's must be longer.
  expireInSeconds: seconds("24 hours"),
  // The run's row counts attempts. For the queue, an attempt is a worker that stopped sending heartbeats.
  retryLimit: 1_000_000,
  retryDelay: 0,
  // The rows have all facts about completed jobs. Queued jobs may wait for a worker for a long time.
  deleteAfterSeconds: seconds("10 minutes"),
  retentionSeconds: seconds("365 days")
}

const options = {
  schema: "castellan_tasks",
  superviseIntervalSeconds: seconds(heartbeatInterval),
  monitorIntervalSeconds: seconds(heartbeatInterval),
  maintenanceIntervalSeconds: seconds("5 minutes"),
  // Unused features: schedules, jobs that depend on others, and changes to queues.
  schedule: false,
  flowIntervalSeconds: seconds("24 hours"),
  queueCacheIntervalSeconds: seconds("24 hours"),
  persistWarnings: false,
  monitorVacuum: false
} satisfies ConstructorOptions

/** Milliseconds of Node's longest timer. A longer one fires at once. */
const maxTimer = 2 ** 31 - 1

/**
 * The clock by which pg-boss supervises its queues. It starts at the system's time and is monotonic: pg-boss waits until a
 * time that it has computed, so if the system's clock were set back by 25 days, it would wait for 25 days, or spin where that
 * exceeds the longest timer. Stored times come from the database.
 */
export const monotonicClock = {
  now: () => performance.timeOrigin + performance.now(),
  setTimeout: (run: () => void, ms: number) => setTimeout(run, Math.min(ms, maxTimer)),
  clearTimeout: (timer: NodeJS.Timeout) => clearTimeout(timer),
  setInterval: (run: () => void, ms: number) => setInterval(run, Math.min(ms, maxTimer)),
  clearInterval: (timer: NodeJS.Timeout) => clearInterval(timer)
}

/** The id of no job. */
const missingJob = "00000000-0000-0000-0000-000000000000"

const databaseOf = (engine: Engine): NonNullable<ConstructorOptions["db"]> =>
  engine._tag === "PGlite"
    ? fromPglite(engine.pglite)
    : { executeSql: (text: string, values?: Array<unknown>) => engine.pool.query(text, values) }

const prepareQueue = async (boss: PgBoss, task: TaskName) => {
  await boss.createQueue(task, queueOptions)
  await boss.updateQueue(task, queueOptions)
  // pg-boss looks up a queue on its first use, on a separate connection. PGlite has only one connection, so a first use
  // within a transaction would deadlock. This is the first use.
  await boss.touch(task, missingJob)
}

/** Runs under an advisory lock, because pg-boss does not keep two servers from creating its tables at once. */
const withAdvisoryLock = async (engine: Engine, work: () => Promise<void>): Promise<void> => {
  if (engine._tag === "PGlite") return work()
  const client = await engine.pool.connect()
  try {
    await client.query("select pg_advisory_lock(hashtextextended('castellan_tasks', 0))")
    await work()
  } finally {
    // Closing the connection releases the lock, even if the connection is broken.
    client.release(true)
  }
}

/** Requeues active jobs. In an embedded database they belong to a process that has ended. */
const requeueActive = ({ kysely }: Db["Service"]) =>
  sql`
    update castellan_tasks.job set state = 'retry', start_after = now(), heartbeat_on = null
    where state = 'active'`.execute(kysely)

/** Starts pg-boss and creates its queues. Stops it when the scope closes. */
export const start = Effect.fnUntraced(function* (db: Db["Service"]) {
  const backend = db.engine._tag === "PGlite" ? "pglite" : "postgres"
  const boss = new PgBoss({ ...options, clock: monotonicClock, db: databaseOf(db.engine), backend })
  const context = yield* Effect.context()
  const log = (level: "Debug" | "Warn") => (event: unknown) =>
    void Effect.runForkWith(context)(Effect.logWithLevel(level)("Task queue event", event))
  boss.on("error", log("Warn"))
  boss.on("warning", log("Debug"))
  yield* Effect.addFinalizer(() => Effect.ignore(Effect.tryPromise(() => boss.stop({ graceful: false }))))
  yield* Effect.tryPromise({
    try: async () => {
      await withAdvisoryLock(db.engine, async () => {
        await boss.start()
        await Promise.all(TaskName.literals.map((task) => prepareQueue(boss, task)))
      })
      if (backend === "pglite") await requeueActive(db)
    },
    catch: (cause) => new DatabaseNotReady({ message: `The task queue can't be created: ${String(cause)}` })
  })
  return boss
})
