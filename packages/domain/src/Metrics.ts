/** The server's metrics and log annotations. Without a collector nothing is counted, at almost no cost. */
import { Cause, Clock, Context, Effect, Exit, Metric } from "effect"

/** Whether metrics are collected. */
export const MetricsEnabled = Context.Reference<boolean>("domain/MetricsEnabled", { defaultValue: () => false })

type Attributes = Record<string, string>

/** Histogram boundaries in milliseconds, from a database statement to an installation of packages. */
const boundaries = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000]

/** All metrics of the server. */
export const metrics = {
  /** Requests by `method`, `route` and `status` class. */
  requests: Metric.counter("castellan_requests_total", {
    description: "Requests answered, by method, route and status class",
    incremental: true
  }),
  /** Milliseconds of a request, by `route` and `status` class. */
  requestMillis: Metric.histogram("castellan_request_duration_milliseconds", {
    description: "Milliseconds from the arrival of a request to the head of its response",
    boundaries
  }),
  /** Creations by `kind` (sandbox, session, app) and `outcome`. */
  creates: Metric.counter("castellan_creates_total", {
    description: "Sandboxes requested, by kind and outcome",
    incremental: true
  }),
  /** Milliseconds until a sandbox is ready, by `kind` (cold, image, resume). */
  readyMillis: Metric.histogram("castellan_ready_milliseconds", {
    description: "Milliseconds until a sandbox is ready, by kind: cold, image or resume",
    boundaries
  }),
  /** Provider calls by `operation` and `code`: `ok`, or the tag of the failure. */
  providerCalls: Metric.counter("castellan_provider_calls_total", {
    description: "Calls of the sandbox provider, by operation and code",
    incremental: true
  }),
  /** Milliseconds of a provider call, by `operation`. */
  providerMillis: Metric.histogram("castellan_provider_call_duration_milliseconds", {
    description: "Milliseconds of a call of the sandbox provider, by operation",
    boundaries
  }),
  /** Sandboxes that have not expired, as last recorded. */
  live: Metric.gauge("castellan_live_sandboxes", { description: "Live sandboxes of all accounts, as last recorded" }),
  /** Runs that wait for a worker, by `task`. */
  queued: Metric.gauge("castellan_queue_depth", { description: "Runs that wait for a worker, by task" }),
  /** Age in seconds of the oldest run that waits for a worker, by `task`. */
  queueAge: Metric.gauge("castellan_queue_age_seconds", {
    description: "Age in seconds of the oldest run that waits for a worker, by task"
  }),
  /** Directories that a local provider failed to remove and will try to remove again. */
  unremoved: Metric.gauge("castellan_local_unremoved", {
    description: "Directories of removed sandboxes that could not be removed from the disk yet"
  }),
  /** Seconds since the reconciler last had no due session left. */
  lag: Metric.gauge("castellan_reconciler_lag_seconds", {
    description: "Seconds since the reconciler last had no due session left"
  })
} as const

/** Updates a metric if metrics are enabled. */
export const record = <Input>(metric: Metric.Metric<Input, unknown>, value: NoInfer<Input>, attributes: Attributes) =>
  Effect.flatMap(MetricsEnabled, (enabled) =>
    enabled ? Metric.update(Metric.withAttributes(metric, attributes), value) : Effect.void
  )

/** The result of an effect as a word without input: `ok`, the tag of its failure, `failed`, `interrupted` or `died`. */
export const codeOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "ok"
  const failure = exit.cause.reasons.find(Cause.isFailReason)?.error
  if (typeof failure === "object" && failure !== null && "_tag" in failure) return String(failure._tag)
  if (failure !== undefined) return "failed"
  return Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "died"
}

/** Counts the executions of an effect by their result, in the attribute `name`. */
export const trackOutcome =
  (metric: Metric.Metric<number, unknown>, attributes: Attributes, name: "code" | "outcome") =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.onExit(effect, (exit) => record(metric, 1, { ...attributes, [name]: codeOf(exit) }))

/** Records the milliseconds of an effect if it succeeds. */
export const trackDuration =
  (metric: Metric.Metric<number, unknown>, attributes: Attributes) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(MetricsEnabled, (enabled) =>
      enabled
        ? Effect.flatMap(Clock.currentTimeMillis, (from) =>
            Effect.tap(effect, () =>
              Effect.flatMap(Clock.currentTimeMillis, (to) => record(metric, Math.max(0, to - from), attributes))
            )
          )
        : effect
    )

/** Adds ids to the log lines and spans of an effect. Takes ids only, because user input may be private. */
export const annotateIds =
  (ids: { readonly [id in "account" | "sandbox" | "session" | "run" | "task"]?: string }) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.annotateSpans(Effect.annotateLogs(effect, ids), ids)
