/** The server before the routes: who asks, what goes wrong, how an answer is sent, and a record of it all. */
import { Cause, Data, Deferred, Effect, FiberSet } from "effect"
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http"
import { buffer } from "node:stream/consumers"
import type { Planned } from "../../Faults.ts"
import { type Answer, json, notFound, refusal, Refused, type Sink } from "./Answers.ts"
import * as Faults from "../Faults.ts"
import * as Lifecycle from "../state/Lifecycle.ts"
import * as Routes from "./Routes.ts"
import type { Asked, Site } from "../state/Site.ts"
import { sinkOf } from "./Sink.ts"

/** A request that came. */
export interface Recorded {
  readonly method: string
  /** With its query, without `/api`. */
  readonly path: string
  readonly headers: IncomingMessage["headers"]
  /** Its body, where that is JSON. */
  readonly body: unknown
  /** Null until it is answered, and where the connection went first. */
  status: number | null
  /** Whether the connection went before it was answered to the end. */
  aborted: boolean
}

/** What the server puts together. */
export interface Parts {
  readonly site: Site
  /** The tokens that are let in, and the teams they may ask for; any token for any team if left out. */
  readonly tokens: Readonly<Record<string, ReadonlyArray<string>>> | undefined
  readonly faults: Planned<Faults.Fault>
  readonly requests: Array<Recorded>
}

/** Requests that are remembered. */
const remembered = 10_000

const parsed = (body: Buffer, type = "") => {
  try {
    return body.length > 0 && type.includes("json") ? (JSON.parse(body.toString("utf8")) as unknown) : undefined
  } catch {
    return undefined
  }
}

const forbidden = (message: string) => new Refused({ status: 403, code: "forbidden", message })

const sendAnswer = (sink: Sink, respond: (status: number) => void, { body, headers, status }: Answer) =>
  Effect.suspend(() => {
    respond(status)
    const bytes = Buffer.from(JSON.stringify(body))
    sink.begin("application/json; charset=utf-8", headers)
    return sink.write(bytes)
  })

/** The emulator can't listen where it was to. */
export class EmulatorUnavailable extends Data.TaggedError("EmulatorUnavailable")<{
  readonly port: number
  readonly cause: Error
}> {}

/** Listens on the loopback, at that port or at any. */
export const listen = Effect.fnUntraced(function* ({ faults, requests, site, tokens }: Parts, port: number) {
  const fork = yield* FiberSet.makeRuntime<never, void, never>()

  const admitted = ({ headers, query }: Asked): Effect.Effect<void, Refused> => {
    const token = /^Bearer +(\S+)$/i.exec(String(headers["authorization"] ?? ""))?.[1]
    if (token === undefined) {
      return Effect.fail(new Refused({ status: 401, code: "unauthorized", message: "Missing authentication token" }))
    }
    if (tokens === undefined) return Effect.void
    const teams = tokens[token]
    if (teams === undefined) return Effect.fail(forbidden("The request requires a valid authentication token."))
    const may = teams.includes(query.get("teamId") ?? "")
    return may ? Effect.void : Effect.fail(forbidden("You don't have permission to access this resource."))
  }

  /** Sends on to the port that has the domain. */
  const elsewhere = (subdomain: string, path: string): Effect.Effect<Answer, Refused> => {
    const bridge = site.bridges.urlOf(subdomain)
    return bridge === undefined
      ? Effect.fail(notFound("Deployment"))
      : Effect.succeed(json({}, 307, { location: bridge + path }))
  }

  const handle = Effect.fnUntraced(function* (
    request: IncomingMessage,
    response: ServerResponse,
    gone: Deferred.Deferred<void>
  ) {
    const body = yield* Effect.promise(() => buffer(request).catch(() => Buffer.alloc(0)))
    const url = new URL(request.url!, "http://localhost")
    const path = url.pathname.replace(/^\/api(?=\/)/, "")
    const method = request.method!
    const recorded: Recorded = {
      method,
      path: path + url.search,
      headers: request.headers,
      body: parsed(body, request.headers["content-type"]),
      status: null,
      aborted: false
    }
    if (requests.push(recorded) > remembered) requests.shift()
    response.once("close", () => {
      recorded.aborted = !response.writableFinished
    })
    const whole = path + url.search
    const fits = Faults.fits(method, whole, Routes.isFirstCommand(site, method, path))
    const fault = faults.take(method, whole, fits)
    if (fault?.kind === "droppedBefore") return void request.socket.destroy()
    if (fault?.kind === "slow" || fault?.kind === "slowFirstCommand") yield* Effect.sleep(fault.ms)
    const sink = sinkOf(
      request,
      response,
      fault,
      (effect) => fork(effect),
      (status) => (recorded.status = status)
    )
    const respond = (answer: Answer) => sendAnswer(sink, sink.respond, answer)
    const instead = fault === undefined ? undefined : Faults.answerOf(fault)
    if (instead !== undefined) {
      yield* respond(instead)
      return sink.end()
    }
    const asked: Asked = {
      method,
      query: url.searchParams,
      headers: request.headers,
      body,
      teamId: url.searchParams.get("teamId") ?? ""
    }
    const session = Routes.sessionIn(site, path)
    if (fault?.kind === "slowStop" && session !== undefined) session.slowness = fault.ms
    if (fault?.kind === "expires" && session !== undefined) {
      fork(Effect.ignore(Effect.delay(Lifecycle.expire(site, session), fault.afterMs)))
    }
    const [, subdomain, below] = /^\/domains\/([^/]+)(\/.*)?$/.exec(path) ?? []
    const answered = Effect.gen(function* () {
      if (subdomain !== undefined) return yield* respond(yield* elsewhere(subdomain, (below ?? "/") + url.search))
      yield* admitted(asked)
      const answer = yield* Routes.answer(site, path, asked)
      if (!("stream" in answer)) return yield* respond(answer)
      // What was begun goes on without the client, but nobody reads a stream to its end then.
      const last = yield* Effect.raceFirst(answer.stream(sink), Deferred.await(gone))
      if (last !== undefined) yield* respond(last)
    })
    yield* Effect.catch(answered, (refused) => respond(refusal(refused)))
    sink.end()
  })

  const server = createServer((request, response) => {
    const gone = Deferred.makeUnsafe<void>()
    response.once("close", () => Deferred.doneUnsafe(gone, Effect.void))
    response.on("error", () => {})
    fork(
      handle(request, response, gone).pipe(
        Effect.catchCause((cause) =>
          Effect.sync(() => {
            // What the emulator itself gets wrong is to be seen.
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
