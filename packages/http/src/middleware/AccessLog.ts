/** Writes one log line, one span and the metrics of each request, by route and never by path. */
import { annotateIds, codeOf, record, metrics } from "@castellan/domain/Metrics.ts"
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SessionId } from "@castellan/domain/session/Session.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { Clock, Context, Effect, Exit, Option, Schema } from "effect"
import { HttpServerRequest, type HttpServerResponse, HttpTraceContext } from "effect/http"
import { type Found, routeOf } from "./Routes.ts"

/** Fields of the current request's log line that are known only while it is handled. */
export const AccessLogFields = Context.Reference<{ account?: AccountId }>("http/AccessLogFields", {
  defaultValue: () => ({})
})

const isRun = Schema.is(RunId)
const isSandbox = Schema.is(SandboxName)
const isSession = Schema.is(SessionId)

/** Whether the server made this id. Any other text in a path may be private and is not logged. */
const isGeneratedId = (text: string) =>
  /^(sbx_|app-|run_)[0-9a-hjkmnp-tv-z]{20}$/.test(text) || /^ses_[0-9a-f]{32}$/.test(text)

/** The ids of a run, a sandbox and a session in a path. */
const idsIn = ({ params, route }: Found) => {
  const { id, runId, sandboxId } = params
  return {
    ...(runId !== undefined && isGeneratedId(runId) && isRun(runId) ? { run: runId } : {}),
    ...(sandboxId !== undefined && isGeneratedId(sandboxId) && isSandbox(sandboxId) ? { sandbox: sandboxId } : {}),
    ...(id !== undefined && route.startsWith("/api/sessions/") && isSession(id) ? { session: id } : {})
  }
}

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

/** The status to log; 499 where the client closed the connection before the response. */
const statusOf = (exit: Exit.Exit<HttpServerResponse.HttpServerResponse, unknown>) =>
  Exit.isSuccess(exit) ? exit.value.status : codeOf(exit) === "interrupted" ? 499 : 500

interface Completed {
  readonly method: string
  readonly route: string
  readonly status: number
  readonly ms: number
  readonly account?: AccountId
}

const recordRequest = Effect.fnUntraced(function* (completed: Completed) {
  const { account, method, ms, route, status } = completed
  yield* Effect.annotateLogs(Effect.logInfo("request"), { ...completed })
  yield* Effect.annotateCurrentSpan({
    "http.response.status_code": status,
    ...(account === undefined ? {} : { account })
  })
  const labels = { route, status: `${Math.floor(status / 100)}xx` }
  yield* record(metrics.requests, 1, { method, ...labels })
  yield* record(metrics.requestMillis, ms, labels)
})

/** Logs, traces and measures the handling of the current request. */
export const logAccess =
  (requestId: string, startedAt: number) =>
  <E, R>(handle: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
    Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      const fields: typeof AccessLogFields.Service = {}
      const found = routeOf(request.url)
      const ids = idsIn(found)
      const { route } = found
      const method = methods.includes(request.method) ? request.method : "other"
      const parent = Option.getOrUndefined(HttpTraceContext.fromHeaders(request.headers))
      return yield* handle.pipe(
        Effect.onExit((exit) =>
          Effect.flatMap(Clock.currentTimeMillis, (now) =>
            recordRequest({
              method,
              route,
              status: statusOf(exit),
              ms: Math.max(0, Math.round(now - startedAt)),
              ...fields
            })
          )
        ),
        Effect.provideService(AccessLogFields, fields),
        annotateIds(ids),
        Effect.annotateLogs({ requestId }),
        Effect.withSpan(`${method} ${route}`, {
          kind: "server",
          attributes: { requestId, ...ids, "http.request.method": method, "http.route": route },
          ...(parent === undefined ? {} : { parent })
        })
      )
    })
