/** The proxy before the apps: what is asked of an app's host goes to its dev server, and nowhere else. */
import { AppPreviews, PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import { Cause, Duration, Effect, FiberSet } from "effect"
import { type IncomingMessage, ServerResponse } from "node:http"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { type Connect, type ConnectionFailure, type Fork, PreviewAgent } from "./PreviewConnection.ts"
import { type Asked, exchange } from "./PreviewExchange.ts"
import { addressedByAll, hostsOf, type PreviewTarget } from "./PreviewHost.ts"
import { send } from "./PreviewPages.ts"
import { join, waiting } from "./PreviewTunnel.ts"

export interface PreviewOptions {
  /** Below whose host the apps have theirs; below `localhost` if left out. */
  readonly base?: URL | undefined
  /** How long a connection to an app is kept that no request uses. */
  readonly idle?: Duration.Duration
  /** Connections that a port of an app has at once: so many are used again and again, as many are for one request. */
  readonly connections?: number
  /** Web sockets that a port of an app has at once. */
  readonly webSockets?: number
}

/** What a server asks of the proxy. Each tells whether a preview's host is meant; then all is seen to. */
export interface Previews {
  readonly takes: (request: IncomingMessage) => boolean
  readonly answer: (request: IncomingMessage, response: ServerResponse, expects: boolean) => boolean
  readonly upgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => boolean
  /** Breaks off what is under way, and takes no more. */
  readonly close: () => void
}

/** How long who is told that a connection is over may go on with it. */
const patience = Duration.seconds(10)

/** The proxy; what it has open ends with the scope. */
export const make = Effect.fnUntraced(function* (options: PreviewOptions) {
  const { base, connections: atMost = 128, webSockets = 256 } = options
  // Node's own servers, which most dev servers are, close a connection after five seconds.
  const { idle = Duration.seconds(4) } = options
  const apps = yield* AppPreviews
  const fork: Fork = yield* FiberSet.makeRuntime<never, void, ConnectionFailure>()
  const connect: Connect = (name, port) => Effect.tapCause(apps.connect(name, port), logged)
  const ways = {
    kept: new PreviewAgent({ connect, fork, atMost, idle }),
    own: new PreviewAgent({ connect, fork, atMost })
  }

  let isClosed = false

  // By the client's connection, since one may carry several requests at once.
  const underWay = new Map<Duplex, Set<() => void>>()
  const stopsOf = (socket: Duplex) => {
    const known = underWay.get(socket)
    if (known !== undefined) return known
    const stops = new Set<() => void>()
    underWay.set(socket, stops)
    socket.once("close", () => {
      underWay.delete(socket)
      for (const stop of stops) stop()
    })
    return stops
  }

  const pass = (asked: Omit<Asked, "protocol" | "over">) => {
    const { socket } = asked.request
    const protocol = base?.protocol.slice(0, -1) ?? "http"
    const stops = stopsOf(socket)
    const stop = exchange({ ...asked, protocol, over: () => stops.delete(stop) }, ways)
    stops.add(stop)
  }

  const late = (end: () => void) => {
    const fiber = fork(Effect.delay(Effect.sync(end), patience))
    return () => fiber.interruptUnsafe()
  }

  const tunnels = new Map<string, number>()
  const count = (key: string, by: number) => {
    const now = (tunnels.get(key) ?? 0) + by
    if (now === 0) tunnels.delete(key)
    else tunnels.set(key, now)
  }

  const close = () => {
    isClosed = true
    for (const [socket, stops] of underWay) {
      if (stops.size > 0) socket.destroy()
      for (const stop of stops) stop()
    }
    for (const agent of Object.values(ways)) agent.destroy()
  }
  yield* Effect.addFinalizer(() => Effect.sync(close))

  const whom = (request: IncomingMessage) => addressedByAll(base, hostsOf(request))

  const answer: Previews["answer"] = (request, response, expects) => {
    const found = whom(request)
    if (found._tag === "Elsewhere") return false
    if (isClosed) request.socket.destroy()
    else if (found._tag === "App") pass({ request, response, expects, target: found.target })
    else {
      request.resume()
      send(request, response, "stopped")
    }
    return true
  }

  const upgrade: Previews["upgrade"] = (request, socket, head) => {
    const found = whom(request)
    if (found._tag === "Elsewhere") return false
    socket.on("error", () => socket.destroy())
    if (isClosed || !(socket instanceof Socket)) socket.destroy()
    else if (found._tag === "Nobody") send(request, answeringOn(socket, request), "stopped")
    else tunnel(request, socket, head, found.target)
    return true
  }

  const tunnel = (request: IncomingMessage, socket: Socket, head: Buffer, target: PreviewTarget) => {
    const key = `${target.name}:${target.port}`
    const response = answeringOn(socket, request)
    if ((tunnels.get(key) ?? 0) >= webSockets) return send(request, response, "unreachable")
    const heardSoFar = waiting(socket, head)
    const become = (app: Duplex, consented: Buffer, heard: Buffer) => {
      response.detachSocket(socket)
      count(key, 1)
      app.once("close", () => count(key, -1))
      stopsOf(socket).add(() => app.destroy())
      // A client that is gone without a word is noticed.
      socket.setKeepAlive(true, Duration.toMillis(patience))
      socket.write(Buffer.concat([consented, heard]))
      app.write(heardSoFar())
      join(socket, app, late)
    }
    pass({ request, response, target, upgrade: become })
  }

  return { takes: (request) => whom(request)._tag !== "Elsewhere", answer, upgrade, close } satisfies Previews
})

/** An answer on a connection that was to become another one, and ends with it. */
const answeringOn = (socket: Socket, request: IncomingMessage) => {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket)
  return response.once("finish", () => socket.destroySoon())
}

const logged = (cause: Cause.Cause<ConnectionFailure>) =>
  Cause.hasInterruptsOnly(cause) || Cause.squash(cause) instanceof PreviewUnavailable
    ? Effect.void
    : Effect.logWarning("an app can't be reached", cause)
