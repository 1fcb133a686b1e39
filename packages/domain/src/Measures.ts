/** What is measured, by name. Nothing is counted, and next to nothing spent, where nobody collects it. */
import { Cause, Clock, Context, Effect, Exit, Metric } from "effect"

/** Whether somebody collects what is measured. */
export const Measuring = Context.Reference<boolean>("domain/Measuring", { defaultValue: () => false })

type Attributes = Record<string, string>

/** Milliseconds, from what a statement takes to what an install takes. */
const boundaries = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 120_000, 300_000]

/** Every measure there is. */
export const measures = {
  /** Requests by `method`, `route` and `status` class. */
  requests: Metric.counter("castellan_requests_total", {
    description: "Requests answered, by method, route and status class",
    incremental: true
  }),
  /** Milliseconds of a request, by `route` and `status` class. */
  requestMillis: Metric.histogram("castellan_request_duration_milliseconds", {
    description: "Milliseconds from a request's arrival to the head of its answer",
    boundaries
  }),
  /** Creates by `kind` (sandbox, session, app) and `outcome`. */
  creates: Metric.counter("castellan_creates_total", {
    description: "Sandboxes asked for, by kind and outcome",
    incremental: true
  }),
  /** Milliseconds until a sandbox is ready, by `kind` (cold, image, resume). */
  readyMillis: Metric.histogram("castellan_ready_milliseconds", {
    description: "Milliseconds until a sandbox is ready, by kind: cold, image or resume",
    boundaries
  }),
  /** Calls of the provider by `operation` and `code`, which is `ok` or what failed. */
  providerCalls: Metric.counter("castellan_provider_calls_total", {
    description: "Calls of the sandbox provider, by operation and code",
    incremental: true
  }),
  /** Milliseconds of a call of the provider, by `operation`. */
  providerMillis: Metric.histogram("castellan_provider_call_duration_milliseconds", {
    description: "Milliseconds of a call of the sandbox provider, by operation",
    boundaries
  }),
  /** Sandboxes whose time is not over, as last known. */
  live: Metric.gauge("castellan_live_sandboxes", { description: "Sandboxes of accounts that live, as last known" }),
  /** Runs that wait for a worker, by `task`. */
  queued: Metric.gauge("castellan_queue_depth", { description: "Runs that wait for a worker, by task" }),
  /** Seconds that the oldest waiting run waits, by `task`. */
  queueAge: Metric.gauge("castellan_queue_age_seconds", {
    description: "Seconds that the longest waiting run waits, by task"
  }),
  /** Things that could not be removed from the disk of a local provider and are tried again. */
  unremoved: Metric.gauge("castellan_local_unremoved", {
    description: "Directories of removed sandboxes that could not be removed from the disk yet"
  }),
  /** Seconds since the reconciler had last looked at every session that was due. */
  lag: Metric.gauge("castellan_reconciler_lag_seconds", {
    description: "Seconds since the reconciler had last looked at every session that was due"
  })
} as const

/** Updates a measure, if somebody collects it. */
export const measure = <Input>(metric: Metric.Metric<Input, unknown>, value: NoInfer<Input>, attributes: Attributes) =>
  Effect.flatMap(Measuring, (on) =>
    on ? Metric.update(Metric.withAttributes(metric, attributes), value) : Effect.void
  )

/** What an effect came to, in a word that names no input: `ok`, the tag of its failure, `interrupted` or `died`. */
export const codeOf = (exit: Exit.Exit<unknown, unknown>): string => {
  if (Exit.isSuccess(exit)) return "ok"
  const failure = exit.cause.reasons.find(Cause.isFailReason)?.error
  if (typeof failure === "object" && failure !== null && "_tag" in failure) return String(failure._tag)
  if (failure !== undefined) return "failed"
  return Cause.hasInterruptsOnly(exit.cause) ? "interrupted" : "died"
}

/** Counts how an effect ends. */
export const counted =
  (metric: Metric.Metric<number, unknown>, attributes: Attributes, name: "code" | "outcome") =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.onExit(effect, (exit) => measure(metric, 1, { ...attributes, [name]: codeOf(exit) }))

/** Measures the milliseconds of an effect that succeeds. */
export const timed =
  (metric: Metric.Metric<number, unknown>, attributes: Attributes) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Measuring, (on) =>
      on
        ? Effect.flatMap(Clock.currentTimeMillis, (from) =>
            Effect.tap(effect, () =>
              Effect.flatMap(Clock.currentTimeMillis, (to) => measure(metric, Math.max(0, to - from), attributes))
            )
          )
        : effect
    )

/** Says of whom all that is logged and traced in an effect is: ids, and never what somebody wrote. */
export const about =
  (ids: { readonly [id in "account" | "sandbox" | "session" | "run" | "task"]?: string }) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.annotateSpans(Effect.annotateLogs(effect, ids), ids)
