/** Traces and metrics, sent to a collector where there is one; where there is none, nothing is traced or counted. */
import { codeOf, MetricsEnabled } from "@castellan/domain/Metrics.ts"
import { Cause, Effect, Exit, Layer, Redacted, References, Tracer } from "effect"
import { FetchHttpClient } from "effect/http"
import { OtlpMetrics, OtlpSerialization, OtlpTracer } from "effect/observability"

export interface TelemetryOptions {
  /** What the collector's paths (`/v1/traces`, `/v1/metrics`) are below. */
  readonly endpoint: string
  readonly headers?: Redacted.Redacted<Record<string, string>>
  /** What the server is called there. */
  readonly serviceName?: string
  /** What else is said of it there. */
  readonly attributes?: Record<string, string>
}

/** A failure without what it carries: of spans everyone who reads traces sees all. */
const bare = (exit: Exit.Exit<unknown, unknown>): Exit.Exit<unknown, unknown> => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return Exit.isSuccess(exit) ? Exit.void : exit
  const failure = new Error(codeOf(exit))
  delete failure.stack
  return Exit.fail(failure)
}

/** A tracer whose spans hold names, ids and codes, and nothing that anybody said. */
const discreet = Layer.effect(
  Tracer.Tracer,
  Effect.map(Tracer.Tracer, (real) =>
    Tracer.make({
      ...real,
      span: (options) => {
        const span = real.span(options)
        const end = span.end.bind(span)
        return Object.assign(span, {
          end: (at: bigint, exit: Exit.Exit<unknown, unknown>) => end(at, bare(exit)),
          event: () => undefined
        })
      }
    })
  )
)

/** Spans and metrics for the collector. */
export const layer = ({ attributes = {}, endpoint, headers, serviceName = "castellan" }: TelemetryOptions) => {
  const below = (path: string) => `${endpoint.replace(/\/+$/, "")}${path}`
  const common = {
    headers: headers === undefined ? {} : Redacted.value(headers),
    shutdownTimeout: "1 second",
    resource: { serviceName, attributes }
  } as const
  return Layer.merge(
    discreet.pipe(Layer.provide(OtlpTracer.layer({ ...common, url: below("/v1/traces") }))),
    OtlpMetrics.layer({ ...common, url: below("/v1/metrics") })
  ).pipe(
    Layer.provide(OtlpSerialization.layerJson),
    Layer.provide(FetchHttpClient.layer),
    Layer.merge(Layer.succeed(MetricsEnabled, true)),
    Layer.merge(Layer.succeed(References.TracerEnabled, true))
  )
}

/** Nothing is traced, and nothing counted. */
export const none = Layer.succeed(References.TracerEnabled, false)
