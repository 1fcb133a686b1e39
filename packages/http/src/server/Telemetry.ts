/** Exports traces and metrics by OTLP. Without a collector nothing is traced or counted. */
import { codeOf, MetricsEnabled } from "@castellan/domain/Metrics.ts"
import { Cause, Effect, Exit, Layer, Redacted, References, Tracer } from "effect"
import { FetchHttpClient } from "effect/http"
import { OtlpMetrics, OtlpSerialization, OtlpTracer } from "effect/observability"

export interface TelemetryOptions {
  /** The collector's base URL, to which `/v1/traces` and `/v1/metrics` are added. */
  readonly endpoint: string
  readonly headers?: Redacted.Redacted<Record<string, string>>
  /** The `service.name` resource attribute. Default `castellan`. */
  readonly serviceName?: string
  /** Further resource attributes. */
  readonly attributes?: Record<string, string>
}

/** Replaces a failure by its code: error messages and stacks may be private, and traces have other readers. */
const withoutDetails = (exit: Exit.Exit<unknown, unknown>): Exit.Exit<unknown, unknown> => {
  if (Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause)) return Exit.isSuccess(exit) ? Exit.void : exit
  const failure = new Error(codeOf(exit))
  delete failure.stack
  return Exit.fail(failure)
}

/** A tracer whose spans contain names, ids and codes, but no messages. */
const privateTracer = Layer.effect(
  Tracer.Tracer,
  Effect.map(Tracer.Tracer, (real) =>
    Tracer.make({
      ...real,
      span: (options) => {
        const span = real.span(options)
        const end = span.end.bind(span)
        return Object.assign(span, {
          end: (at: bigint, exit: Exit.Exit<unknown, unknown>) => end(at, withoutDetails(exit)),
          event: () => undefined
        })
      }
    })
  )
)

/** Spans and metrics for the collector. */
export const layer = ({ attributes = {}, endpoint, headers, serviceName = "castellan" }: TelemetryOptions) => {
  const at = (path: string) => `${endpoint.replace(/\/+$/, "")}${path}`
  const common = {
    headers: headers === undefined ? {} : Redacted.value(headers),
    shutdownTimeout: "1 second",
    resource: { serviceName, attributes }
  } as const
  return Layer.merge(
    privateTracer.pipe(Layer.provide(OtlpTracer.layer({ ...common, url: at("/v1/traces") }))),
    OtlpMetrics.layer({ ...common, url: at("/v1/metrics") })
  ).pipe(
    Layer.provide(OtlpSerialization.layerJson),
    Layer.provide(FetchHttpClient.layer),
    Layer.merge(Layer.succeed(MetricsEnabled, true)),
    Layer.merge(Layer.succeed(References.TracerEnabled, true))
  )
}

/** Disables tracing. */
export const none = Layer.succeed(References.TracerEnabled, false)
