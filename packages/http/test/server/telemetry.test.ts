/** Traces and metrics of requests over the World, as a collector receives them. */
import { metrics } from "@castellan/domain/Metrics.ts"
import * as Telemetry from "../../src/server/Telemetry.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Metric, Redacted } from "effect"
import { HttpMiddleware } from "effect/http"
import { readFileSync } from "node:fs"
import { TestClock } from "effect/testing"
import { collector } from "./collector.ts"
import { WebApi } from "../WebApi.ts"

const exported = () => Object.values(metrics).map(({ id }) => id)

describe("Telemetry", () => {
  it.effect("exports the spans of a request from its arrival to the provider call, with ids, and every metric", () =>
    Effect.gen(function* () {
      const collected = yield* collector
      const telemetry = Layer.mergeAll(
        Telemetry.layer({
          endpoint: collected.endpoint,
          headers: Redacted.make({ "x-of-the-collector": "key" }),
          serviceName: "castellan-test",
          attributes: { "deployment.environment": "test" }
        }),
        Layer.succeed(HttpMiddleware.TracerDisabledWhen, () => true)
      ).pipe(Layer.provideMerge(Layer.succeed(Metric.MetricRegistry, new Map())))
      const { account, id, made } = yield* Effect.gen(function* () {
        const { ask, join } = yield* WebApi
        const { account, key } = yield* join()
        const headers = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" }
        const made = yield* ask("POST", "/api/sandboxes", { key, headers, body: {} })
        const id: string = made.json.sandboxes[0].sandboxId
        yield* ask("GET", `/api/sandboxes/${id}`, { key })
        yield* ask("GET", "/api/sandboxes/sbx_none", { key })
        yield* ask("GET", "/nothing/here")
        yield* TestClock.adjust("1 minute")
        return { account, id, made }
      }).pipe(Effect.provide(WebApi.layer), Effect.provide(telemetry))

      const spans = collected.spans()
      const request = spans.find(({ name }) => name === "POST /api/sandboxes")!
      assert.strictEqual(request.traceId, "0af7651916cd43dd8448eb211c80319c")
      assert.strictEqual(request.attributes["requestId"], made.headers.get("x-request-id"))
      assert.strictEqual(request.attributes["account"], account.id)
      const create = spans.find(({ name }) => name === "SandboxProvider.create")!
      assert.strictEqual(create.attributes["account"], account.id)
      assert.strictEqual(create.attributes["sandbox"], id)
      const above = (spanId: string | undefined): ReadonlyArray<string> => {
        const span = spans.find((one) => one.spanId === spanId)
        return span === undefined ? [] : [span.name, ...above(span.parentSpanId)]
      }
      assert.deepStrictEqual(above(create.spanId), [
        "SandboxProvider.create",
        "AccountSandboxes.create",
        "POST /api/sandboxes"
      ])
      const held = spans.find(({ name }) => name === "GET /api/sandboxes/{sandboxId}")!
      assert.strictEqual(held.attributes["sandbox"], id)
      assert.include(collected.headers()[0]!, '"x-of-the-collector":"key"')

      const metrics = collected.metrics()
      const series = (name: string) => metrics[name] ?? []
      assert.deepStrictEqual(
        Object.keys(metrics).filter((name) => !exported().includes(name)),
        []
      )
      assert.deepInclude(series("castellan_requests_total"), {
        method: "POST",
        route: "/api/sandboxes",
        status: "2xx"
      })
      assert.deepInclude(series("castellan_requests_total"), { method: "GET", route: "none", status: "4xx" })
      assert.deepInclude(series("castellan_request_duration_milliseconds"), {
        route: "/api/sandboxes/{sandboxId}",
        status: "4xx"
      })
      assert.deepInclude(series("castellan_creates_total"), { kind: "sandbox", outcome: "ok" })
      assert.deepInclude(series("castellan_ready_milliseconds"), { kind: "cold" })
      assert.deepInclude(series("castellan_provider_calls_total"), { operation: "create", code: "ok" })
      assert.deepInclude(series("castellan_queue_depth"), { task: "run-sandbox-command" })
      for (const name of ["castellan_live_sandboxes", "castellan_reconciler_lag_seconds"]) {
        assert.strictEqual(series(name).length, 1, name)
      }
    }).pipe(Effect.scoped)
  )

  it("exports exactly the metrics that the dashboard queries", () => {
    const dashboard = readFileSync(new URL("../../../../docs/grafana/castellan.json", import.meta.url), "utf8")
    const asked = [...dashboard.matchAll(/castellan_[a-z_]+/g)].map(([name]) =>
      name.replace(/_(bucket|sum|count)$/, "")
    )
    assert.deepStrictEqual([...new Set(asked)].toSorted(), exported().toSorted())
  })

  it.effect("creates no spans and no metrics without a collector", () =>
    Effect.gen(function* () {
      const registry = new Map()
      yield* Effect.gen(function* () {
        const { ask, join } = yield* WebApi
        const { key } = yield* join()
        assert.strictEqual((yield* ask("POST", "/api/sandboxes", { key, body: {} })).status, 200)
      }).pipe(
        Effect.provide(WebApi.layer),
        Effect.provide(Layer.merge(Telemetry.none, Layer.succeed(Metric.MetricRegistry, registry)))
      )
      assert.strictEqual(registry.size, 0)
    })
  )
})
