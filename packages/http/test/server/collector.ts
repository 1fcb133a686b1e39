/** A collector of traces and metrics that records what it receives. */
import { Effect } from "effect"
import { once } from "node:events"
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"

interface Attribute {
  readonly key: string
  readonly value: Record<string, unknown>
}

/** The fields of a span that tests check. */
export interface Span {
  readonly name: string
  readonly traceId: string
  readonly spanId: string
  readonly parentSpanId?: string
  readonly attributes: Record<string, unknown>
}

const attributesOf = (given: ReadonlyArray<Attribute>) =>
  Object.fromEntries(given.map(({ key, value }) => [key, Object.values(value)[0]]))

/** Listens until the scope is closed. */
export const collector = Effect.gen(function* () {
  const heard: Array<{ readonly path: string; readonly headers: string; readonly text: string }> = []
  const server = yield* Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createServer((request, response) => {
        let text = ""
        request.setEncoding("utf8").on("data", (chunk) => (text += chunk))
        request.on("end", () => {
          heard.push({ path: request.url ?? "", headers: JSON.stringify(request.headers), text })
          response.setHeader("content-type", "application/json").end("{}")
        })
      }).listen(0, "127.0.0.1")
      await once(server, "listening")
      return server
    }),
    (server) => Effect.sync(() => (server.closeAllConnections(), server.close()))
  )
  const sent = (path: string) => heard.filter((one) => one.path === path).map(({ text }) => JSON.parse(text))
  return {
    endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** Everything received, in order. */
    text: () => heard.map(({ text }) => text).join("\n"),
    headers: () => heard.map(({ headers }) => headers),
    spans: (): ReadonlyArray<Span> =>
      sent("/v1/traces").flatMap(({ resourceSpans }) =>
        resourceSpans[0].scopeSpans[0].spans.map((span: { readonly attributes: ReadonlyArray<Attribute> }) => ({
          ...span,
          attributes: attributesOf(span.attributes)
        }))
      ),
    /** The attributes of every series, by metric, from the latest export. */
    metrics: (): Record<string, ReadonlyArray<Record<string, unknown>>> =>
      Object.fromEntries(
        (sent("/v1/metrics").at(-1)?.resourceMetrics[0].scopeMetrics[0].metrics ?? []).map(
          (
            metric: Record<string, { readonly dataPoints: ReadonlyArray<{ attributes: ReadonlyArray<Attribute> }> }>
          ) => [
            metric.name,
            (metric.sum ?? metric.gauge ?? metric.histogram)!.dataPoints.map(({ attributes }) =>
              attributesOf(attributes)
            )
          ]
        )
      )
  }
})
