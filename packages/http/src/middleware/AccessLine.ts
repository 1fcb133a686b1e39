/** One line, one span and the measures of each request: what was asked, by route and not by path, and what came of it. */
import { about, codeOf, measure, measures } from "@castellan/domain/Measures.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SessionId } from "@castellan/domain/session/Session.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { Clock, Effect, Exit, Option, Schema } from "effect"
import { HttpServerRequest, type HttpServerResponse, HttpTraceContext } from "effect/http"
import { type Facts, RequestFacts } from "./RequestFacts.ts"
import { type Found, routeOf } from "./Routes.ts"

const isRun = Schema.is(RunId)
const isSandbox = Schema.is(SandboxName)
const isSession = Schema.is(SessionId)

/** What we call sandboxes and runs. Whatever else stands in a path may be anything, and is not told. */
const isOurs = (text: string) =>
  /^(sbx_|app-|run_)[0-9a-hjkmnp-tv-z]{20}$/.test(text) || /^ses_[0-9a-f]{32}$/.test(text)

/** The ids in a path. */
const idsIn = ({ params, route }: Found) => {
  const { id, runId, sandboxId } = params
  return {
    ...(runId !== undefined && isOurs(runId) && isRun(runId) ? { run: runId } : {}),
    ...(sandboxId !== undefined && isOurs(sandboxId) && isSandbox(sandboxId) ? { sandbox: sandboxId } : {}),
    ...(id !== undefined && route.startsWith("/api/sessions/") && isSession(id) ? { session: id } : {})
  }
}

const methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

/** Tells of the request that is answered, under the id given. */
export const told =
  (requestId: string, arrivedAt: number) =>
  <E, R>(answer: Effect.Effect<HttpServerResponse.HttpServerResponse, E, R>) =>
    Effect.gen(function* () {
      const request = yield* HttpServerRequest.HttpServerRequest
      const facts: Facts = {}
      const found = routeOf(request.url)
      const { route } = found
      const method = methods.includes(request.method) ? request.method : "other"
      const written = Effect.fnUntraced(function* (exit: Exit.Exit<HttpServerResponse.HttpServerResponse, unknown>) {
        // A caller that hung up is told nothing.
        const status = Exit.isSuccess(exit) ? exit.value.status : codeOf(exit) === "interrupted" ? 499 : 500
        const ms = Math.max(0, Math.round((yield* Clock.currentTimeMillis) - arrivedAt))
        const { account } = facts
        const said = { method, route, status, ms, ...(account === undefined ? {} : { account }) }
        yield* Effect.annotateLogs(Effect.logInfo("request"), said)
        yield* Effect.annotateCurrentSpan({
          "http.response.status_code": status,
          ...(account === undefined ? {} : { account })
        })
        const kind = { route, status: `${Math.floor(status / 100)}xx` }
        yield* measure(measures.requests, 1, { method, ...kind })
        yield* measure(measures.requestMillis, ms, kind)
      })
      const parent = Option.getOrUndefined(HttpTraceContext.fromHeaders(request.headers))
      return yield* answer.pipe(
        Effect.onExit((exit) => written(exit)),
        Effect.provideService(RequestFacts, facts),
        about(idsIn(found)),
        Effect.annotateLogs({ requestId }),
        Effect.withSpan(`${method} ${route}`, {
          kind: "server",
          attributes: { requestId, ...idsIn(found), "http.request.method": method, "http.route": route },
          ...(parent === undefined ? {} : { parent })
        })
      )
    })
