/** pg-boss as it is used here: on the database of the rows, with a queue for each task. */
import { TaskName } from "@castellan/domain/task/TaskRun.ts"
import { heartbeatTimeout } from "@castellan/domain/task/TaskRunner.ts"
import { Duration, Effect } from "effect"
import { sql } from "kysely"
import { type ConstructorOptions, fromPglite, PgBoss, type QueueOptions } from "pg-boss"
import { type Db, DatabaseNotReady, type Engine } from "../postgres/Db.ts"

/** What the queue carries; all else is in the run's row. */
export interface Ticket {
  readonly run: string
}

/** How often a worker says that its runs are alive, and how often those are looked for of whom nobody says so. */
export const heartbeatInterval = Duration.seconds(5)

const seconds = (duration: Duration.Input) => Math.floor(Duration.toSeconds(duration))

const queueOptions: QueueOptions = {
  // The rest of the time goes by until somebody looks, and until the next worker asks.
  heartbeatSeconds: seconds(heartbeatTimeout) - 2 * seconds(heartbeatInterval),
  // A run has a deadline of its own; the queue's, at its longest, must never be the shorter one.
  expireInSeconds: seconds("24 hours"),
  // Attempts are counted in the run's row. To the queue an attempt is only a worker that fell silent.
  retryLimit: 1_000_000,
  retryDelay: 0,
  // Done tickets tell nothing that the rows don't; those that wait for a worker wait as long as it takes.
  deleteAfterSeconds: seconds("10 minutes"),
  retentionSeconds: seconds("365 days")
}

const options = {
  schema: "castellan_tasks",
  superviseIntervalSeconds: seconds(heartbeatInterval),
  monitorIntervalSeconds: seconds(heartbeatInterval),
  maintenanceIntervalSeconds: seconds("5 minutes"),
  // Not used here: schedules, jobs that wait for others, and queues that change.
  schedule: false,
  flowIntervalSeconds: seconds("24 hours"),
  queueCacheIntervalSeconds: seconds("24 hours"),
  persistWarnings: false,
  monitorVacuum: false
} satisfies ConstructorOptions

/** The longest time that a timer of Node can wait; a longer one fires at once. */
const longestTimer = 2 ** 31 - 1

/**
 * The clock by which pg-boss decides when to supervise its queues. It starts at the system's time and then only goes
 * forward at an even pace: pg-boss waits until a moment that it computed before, so by the system's clock, stepped back by
 * 25 days, it would wait for 25 days, or spin where that is more than a timer can wait. What is stored about jobs is
 * dated by the database.
 */
export const monotonicClock = {
  now: () => performance.timeOrigin + performance.now(),
  setTimeout: (run: () => void, ms: number) => setTimeout(run, Math.min(ms, longestTimer)),
  clearTimeout: (timer: NodeJS.Timeout) => clearTimeout(timer),
  setInterval: (run: () => void, ms: number) => setInterval(run, Math.min(ms, longestTimer)),
  clearInterval: (timer: NodeJS.Timeout) => clearInterval(timer)
}

/** The id of no job. */
const nobody = "00000000-0000-0000-0000-000000000000"

const databaseOf = (engine: Engine): NonNullable<ConstructorOptions["db"]> =>
  engine._tag === "PGlite"
    ? fromPglite(engine.pglite)
    : { executeSql: (text: string, values?: Array<unknown>) => engine.pool.query(text, values) }

const prepare = async (boss: PgBoss, task: TaskName) => {
  await boss.createQueue(task, queueOptions)
  await boss.updateQueue(task, queueOptions)
  // pg-boss looks a queue up at its first use, by a connection of its own. PGlite has but one, and a first use within
  // our transaction would wait for that transaction to end: so the first use is here.
  await boss.touch(task, nobody)
}

/** One server at a time: pg-boss's own lock does not keep two from making its tables at once. */
const inTurn = async (engine: Engine, work: () => Promise<void>): Promise<void> => {
  if (engine._tag === "PGlite") return work()
  const client = await engine.pool.connect()
  try {
    await client.query("select pg_advisory_lock(hashtextextended('castellan_tasks', 0))")
    await work()
  } finally {
    // Its lock goes with the connection, whatever became of that.
    client.release(true)
  }
}

/** In a database of one process, what is active at its start was left by a process that is gone. */
const takeBack = ({ kysely }: Db["Service"]) =>
  sql`
    update castellan_tasks.job set state = 'retry', start_after = now(), heartbeat_on = null
    where state = 'active'`.execute(kysely)

/** pg-boss, started and with its queues, for as long as the scope is open. */
export const start = Effect.fnUntraced(function* (db: Db["Service"]) {
  const backend = db.engine._tag === "PGlite" ? "pglite" : "postgres"
  const boss = new PgBoss({ ...options, clock: monotonicClock, db: databaseOf(db.engine), backend })
  const context = yield* Effect.context()
  const log = (level: "Debug" | "Warn") => (event: unknown) =>
    void Effect.runForkWith(context)(Effect.logWithLevel(level)("the task queue", event))
  boss.on("error", log("Warn"))
  boss.on("warning", log("Debug"))
  yield* Effect.addFinalizer(() => Effect.ignore(Effect.tryPromise(() => boss.stop({ graceful: false }))))
  yield* Effect.tryPromise({
    try: async () => {
      await inTurn(db.engine, async () => {
        await boss.start()
        await Promise.all(TaskName.literals.map((task) => prepare(boss, task)))
      })
      if (backend === "pglite") await takeBack(db)
    },
    catch: (cause) => new DatabaseNotReady({ message: `The task queue can't be prepared: ${String(cause)}` })
  })
  return boss
})
