/** The routes of the API, each with its handler. */
import { Effect } from "effect"
import * as FindMyWay from "effect/http/FindMyWay"
import * as Commands from "../state/Commands.ts"
import { type EmulatorRequest, type EmulatorState, sessionOf } from "../state/EmulatorState.ts"
import * as Files from "../state/Files.ts"
import type { SessionModel } from "../state/models.ts"
import * as Sandboxes from "../state/Sandboxes.ts"
import * as Sessions from "../state/Sessions.ts"
import * as Snapshots from "../state/Snapshots.ts"
import { type ApiError, type JsonResponse, notFound, type StreamedResponse } from "./responses.ts"

type Result = Effect.Effect<JsonResponse | StreamedResponse, ApiError>
type Params = Readonly<Record<string, string | undefined>>
type Handler = (state: EmulatorState, request: EmulatorRequest, params: Params) => Result

/** A handler of a route with the name of a sandbox, or the id of a snapshot. */
const named =
  (handler: (state: EmulatorState, request: EmulatorRequest, name: string) => Result): Handler =>
  (state, request, { name = "" }) =>
    handler(state, request, name)

/** A handler of a route below a session, which may have the id of a command. */
const ofSession =
  (
    handler: (
      state: EmulatorState,
      session: SessionModel,
      request: EmulatorRequest,
      command: string
    ) => Result | JsonResponse | StreamedResponse
  ): Handler =>
  (state, request, { command = "", session = "" }) =>
    Effect.flatMap(sessionOf(state, request, session), (session) => {
      const result = handler(state, session, request, command)
      return Effect.isEffect(result) ? result : Effect.succeed(result)
    })

/** By method and path below `/v2/sandboxes`. */
const routes: ReadonlyArray<readonly [method: string, path: FindMyWay.PathInput, Handler]> = [
  ["POST", "/", Sandboxes.create],
  ["GET", "/", Sandboxes.list],
  ["GET", "/sessions", Sessions.list],
  ["GET", "/sessions/:session", ofSession(Sessions.show)],
  ["POST", "/sessions/:session/cmd", ofSession(Commands.start)],
  ["GET", "/sessions/:session/cmd", ofSession(Commands.list)],
  ["GET", "/sessions/:session/cmd/:command", ofSession(Commands.show)],
  [
    "GET",
    "/sessions/:session/cmd/:command/logs",
    ofSession((state, session, _, id) => Commands.logs(state, session, id))
  ],
  ["POST", "/sessions/:session/cmd/:command/kill", ofSession(Commands.kill)],
  ["POST", "/sessions/:session/fs/mkdir", ofSession(Files.mkdir)],
  ["POST", "/sessions/:session/fs/write", ofSession(Files.write)],
  ["POST", "/sessions/:session/fs/read", ofSession(Files.read)],
  ["POST", "/sessions/:session/stop", ofSession(Sessions.stop)],
  ["POST", "/sessions/:session/snapshot", ofSession(Sessions.snapshot)],
  ["POST", "/sessions/:session/extend-timeout", ofSession(Sessions.extend)],
  ["POST", "/sessions/:session/network-policy", ofSession(Sessions.networkPolicy)],
  ["POST", "/sessions/:session/interactive", ofSession(Sessions.interactive)],
  ["GET", "/snapshots", Snapshots.list],
  ["GET", "/snapshots/tree", Snapshots.tree],
  ["GET", "/snapshots/:name", named(Snapshots.show)],
  ["DELETE", "/snapshots/:name", named(Snapshots.remove)],
  ["GET", "/:name", named(Sandboxes.get)],
  ["PATCH", "/:name", named(Sandboxes.update)],
  ["DELETE", "/:name", named(Sandboxes.remove)],
  ["POST", "/:name/fork", named(Sandboxes.fork)]
]

const router = FindMyWay.make<Handler>()
for (const [method, path, handler] of routes) router.on(method, path, handler)

/** Whether the request starts the first command of a session. */
export const isFirstCommand = (state: EmulatorState, method: string, path: string): boolean =>
  method === "POST" && path.endsWith("/cmd") && sessionIn(state, path)?.commands.size === 0

/** The session in a path. */
export const sessionIn = (state: EmulatorState, path: string): SessionModel | undefined =>
  state.sessions.get(/^\/v\d+\/sandboxes\/sessions\/([^/]+)/.exec(path)?.[1] ?? "")

/** Handles a request; the path has no `/api`. */
export const handle = (state: EmulatorState, path: string, request: EmulatorRequest): Result => {
  const match = /^\/v\d+\/sandboxes(\/.*)?$/.exec(path)
  const found = match === null ? undefined : router.find(request.method, match[1] ?? "/")
  return found === undefined ? Effect.fail(notFound("Endpoint")) : found.handler(state, request, found.params)
}
