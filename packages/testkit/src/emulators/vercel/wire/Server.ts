/** The HTTP server: authenticates and records requests, applies faults, and passes requests to their routes. */
import { Cause, Data, Deferred, Effect, FiberSet } from "effect"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { buffer } from "node:stream/consumers"
import type { PlannedFaults } from "../../Faults.ts"
import { type JsonResponse, json, notFound, refusal, ApiError, type ResponseWriter } from "./responses.ts"
import * as Faults from "../Faults.ts"
import * as Lifecycle from "../state/Lifecycle.ts"
import * as routes from "./routes.ts"
import type { EmulatorRequest, EmulatorState } from "../state/EmulatorState.ts"
import { makeWriter } from "./ResponseWriter.ts"

/** A received request. */
export interface RecordedRequest {
  readonly method: string
  /** With the query, without the prefix `/api`. */
  readonly path: string
  readonly headers: EmulatorRequest["headers"]
  /** The decoded body, if it is JSON. */
  readonly body: unknown
  /** Null until the response ends, and if the connection closes before. */
  status: number | null
  /** Whether the connection closed before the response ended. */
  aborted: boolean
}

/** The parts that the server connects. */
export interface Parts {
  readonly state: EmulatorState
  /** The accepted tokens with their teams; any token for any team if undefined. */
  readonly tokens: Readonly<Record<string, ReadonlyArray<string>>> | undefined
  readonly faults: PlannedFaults<Faults.Fault>
  readonly requests: Array<RecordedRequest>
}

/** The most requests that are recorded. */
const remembered = 10_000

const parsed = (body: Buffer, type: unknown) => {
  try {
    return body.length > 0 && String(type).includes("json") ? (JSON.parse(body.toString("utf8")) as unknown) : undefined
  } catch {
    return undefined
  }
}

const forbidden = (message: string) => new ApiError({ status: 403, code: "forbidden", message })

const sendJson = (
  writer: ResponseWriter,
  setStatus: (status: number) => void,
  { body, headers, status }: JsonResponse
) =>
  Effect.suspend(() => {
    setStatus(status)
    const bytes = Buffer.from(JSON.stringify(body))
    writer.begin("application/json; charset=utf-8", headers)
    return writer.write(bytes)
  })

/** The emulator cannot listen on its port. */
export class EmulatorUnavailable extends Data.TaggedError("EmulatorUnavailable")<{
  readonly port: number
  readonly cause: Error
}> {}

/** Fails unless the request has an accepted token for its team. */
const authorize = (tokens: Parts["tokens"], { headers, teamId }: EmulatorRequest): Effect.Effect<void, ApiError> => {
  const token = /^Bearer +(\S+)$/i.exec(String(headers["authorization"] ?? ""))?.[1]
  if (token === undefined) {
    return Effect.fail(new ApiError({ status: 401, code: "unauthorized", message: "Missing authentication token" }))
  }
  if (tokens === undefined) return Effect.void
  const teams = tokens[token]
  if (teams === undefined) return Effect.fail(forbidden("The request requires a valid authentication token."))
  return teams.includes(teamId)
    ? Effect.void
    : Effect.fail(forbidden("You don't have permission to access this resource."))
}

/** Redirects a request for a subdomain to the address of its port. */
const redirectToPort = (
  { bridges }: EmulatorState,
  subdomain: string,
  path: string
): Effect.Effect<JsonResponse, ApiError> => {
  const bridge = bridges.urlOf(subdomain)
  return bridge === undefined
    ? Effect.fail(notFound("Deployment"))
    : Effect.succeed(json({}, 307, { location: bridge + path }))
}

/** Records a request, and later how it ended. */
const record = (requests: Array<RecordedRequest>, request: EmulatorRequest, path: string, response: ServerResponse) => {
  const recorded: RecordedRequest = {
    method: request.method,
    path,
    headers: request.headers,
    body: parsed(request.body, request.headers["content-type"]),
    status: null,
    aborted: false
  }
  if (requests.push(recorded) > remembered) requests.shift()
  response.once("close", () => {
    recorded.aborted = !response.writableFinished
  })
  return recorded
}

type Fork = (effect: Effect.Effect<void>) => void

/** Plans a slow stop, or a timeout, of the session in the path. */
const applySessionFault = (state: EmulatorState, path: string, fault: Faults.Fault | undefined, fork: Fork) => {
  const session = routes.sessionIn(state, path)
  if (session === undefined) return
  if (fault?.kind === "slowStop") session.slowness = fault.ms
  if (fault?.kind === "expires") fork(Effect.ignore(Effect.delay(Lifecycle.expire(state, session), fault.afterMs)))
}

/** Handles a request; `gone` completes when the client closes the connection. */
const handle = Effect.fnUntraced(function* (
  { faults, requests, state, tokens }: Parts,
  fork: Fork,
  incoming: IncomingMessage,
  response: ServerResponse,
  gone: Deferred.Deferred<void>
) {
  const url = new URL(incoming.url!, "http://localhost")
  const path = url.pathname.replace(/^\/api(?=\/)/, "")
  const whole = path + url.search
  const request: EmulatorRequest = {
    method: incoming.method!,
    query: url.searchParams,
    headers: incoming.headers,
    body: yield* Effect.promise(() => buffer(incoming).catch(() => Buffer.alloc(0))),
    teamId: url.searchParams.get("teamId") ?? ""
  }
  const recorded = record(requests, request, whole, response)
  const fits = Faults.fits(request.method, whole, routes.isFirstCommand(state, request.method, path))
  const fault = faults.take(request.method, whole, fits)
  if (fault?.kind === "droppedBefore") return void incoming.socket.destroy()
  if (fault?.kind === "slow" || fault?.kind === "slowFirstCommand") yield* Effect.sleep(fault.ms)
  const writer = makeWriter(incoming, response, fault, fork, (status) => (recorded.status = status))
  const respond = (answer: JsonResponse) => sendJson(writer, writer.setStatus, answer)
  const instead = fault === undefined ? undefined : Faults.responseOf(fault)
  if (instead !== undefined) {
    yield* respond(instead)
    return writer.end()
  }
  applySessionFault(state, path, fault, fork)
  const [, subdomain, below = "/"] = /^\/domains\/([^/]+)(\/.*)?$/.exec(path) ?? []
  const routed = Effect.gen(function* () {
    if (subdomain !== undefined) return yield* respond(yield* redirectToPort(state, subdomain, below + url.search))
    yield* authorize(tokens, request)
    const answer = yield* routes.handle(state, path, request)
    if (!("stream" in answer)) return yield* respond(answer)
    // A stream ends when the client closes the connection; other requests are completed.
    const last = yield* Effect.raceFirst(answer.stream(writer), Deferred.await(gone))
    if (last !== undefined) yield* respond(last)
  })
  yield* Effect.catch(routed, (error) => respond(refusal(error)))
  writer.end()
})

/** Listens on a port of the loopback; 0 is any free port. */
export const listen = Effect.fnUntraced(function* (parts: Parts, port: number) {
  const fork = yield* FiberSet.makeRuntime<never, void, never>()

  const server = createServer((request, response) => {
    const gone = Deferred.makeUnsafe<void>()
    response.once("close", () => Deferred.doneUnsafe(gone, Effect.void))
    response.on("error", () => {})
    fork(
      handle(parts, fork, request, response, gone).pipe(
        Effect.catchCause((cause) =>
          Effect.sync(() => {
            // Shows a defect of the emulator itself to the test.
            if (response.headersSent || Cause.hasInterrupts(cause)) return void request.socket.destroy()
            response.writeHead(500, { "content-type": "application/json" })
            response.end(JSON.stringify({ error: { code: "emulator_failed", message: Cause.pretty(cause) } }))
          })
        )
      )
    )
  })
  server.requestTimeout = 0
  yield* Effect.acquireRelease(
    Effect.callback<void, EmulatorUnavailable>((resume) => {
      server.once("error", (cause) => resume(Effect.fail(new EmulatorUnavailable({ port, cause }))))
      server.listen(port, "127.0.0.1", () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return server as Server
})
