/** Periodic work of each server: settles interrupted creates, deletes what is no longer used, samples gauges. */
import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { Snapshots } from "@castellan/domain/account/Snapshots.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { IdempotencyStore, responseRetentionMs } from "@castellan/domain/identity/IdempotencyStore.ts"
import { metrics, MetricsEnabled, record } from "@castellan/domain/Metrics.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { Reconciler } from "@castellan/domain/session/Reconciler.ts"
import { TaskName } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { DateTime, Duration, Effect, Layer, Schedule } from "effect"

/** How long events can be read. */
const eventRetention = Duration.days(7)

/** Runs a job now and after each interval. A failure is logged and does not stop the next run. */
const repeat = (job: string, interval: Duration.Input, run: Effect.Effect<unknown, unknown>) =>
  run.pipe(
    Effect.catchCause((cause) =>
      Effect.logWarning("Failed to run housekeeping job", cause).pipe(Effect.annotateLogs({ job }))
    ),
    Effect.repeat(Schedule.spaced(interval)),
    Effect.forkScoped
  )

/** Records the gauges whose values only the stores know. */
const sampleGauges = Effect.gen(function* () {
  const runner = yield* TaskRunner
  const accounts = yield* AccountStore
  return Effect.gen(function* () {
    const now = yield* DateTime.now
    const backlogs = new Map((yield* runner.backlog).map((backlog) => [backlog.task, backlog]))
    for (const task of TaskName.literals) {
      const { depth, oldest } = backlogs.get(task) ?? { depth: 0, oldest: now }
      yield* record(metrics.queued, depth, { task })
      const ageMillis = Math.max(0, now.epochMilliseconds - oldest.epochMilliseconds)
      yield* record(metrics.queueAge, ageMillis / 1000, { task })
    }
    yield* record(metrics.live, yield* accounts.countLive(now), {})
  })
})

export const layer = Layer.effectDiscard(
  Effect.gen(function* () {
    const sandboxes = yield* AccountSandboxes
    const snapshots = yield* Snapshots
    const images = yield* BaseImages
    const reconciler = yield* Reconciler
    const apps = yield* AppSandboxes
    const events = yield* EventStore
    const responses = yield* IdempotencyStore
    const before = (retention: Duration.Input) =>
      Effect.map(DateTime.now, (now) => DateTime.subtractDuration(now, retention))
    yield* repeat("settle interrupted creates", "30 seconds", sandboxes.reconcile)
    yield* repeat("delete expired sandboxes", "5 minutes", sandboxes.tidy)
    yield* repeat("delete unused snapshots", "5 minutes", snapshots.collect)
    yield* repeat("delete unused base images", "5 minutes", images.collect)
    yield* repeat("reconcile web apps", "15 seconds", apps.reconcile)
    yield* repeat(
      "delete expired idempotency keys",
      "1 hour",
      Effect.flatMap(before(responseRetentionMs), responses.sweep)
    )
    yield* repeat("delete expired events", "1 hour", Effect.flatMap(before(eventRetention), events.sweep))
    yield* Effect.forkScoped(reconciler.run)
    if (yield* MetricsEnabled) yield* repeat("sample gauges", "15 seconds", yield* sampleGauges)
  })
)
