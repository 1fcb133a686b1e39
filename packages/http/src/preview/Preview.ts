/** Reverse proxy for web apps: forwards requests for an app's preview host to the app's dev server. */
import { AppPreviews, PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import { Cause, Duration, Effect, FiberSet } from "effect"
import { type IncomingMessage, ServerResponse } from "node:http"
import { Socket } from "node:net"
import type { Duplex } from "node:stream"
import { type Connect, type ConnectionFailure, type Fork, PreviewAgent } from "./PreviewConnection.ts"
import { type ExchangeOptions, startExchange } from "./PreviewExchange.ts"
import { hostsOf, parseHosts, type PreviewTarget } from "./PreviewHost.ts"
import { sendPage } from "./PreviewPages.ts"
import { bufferEarlyBytes, join } from "./PreviewTunnel.ts"

export interface PreviewOptions {
  /** Base URL of the previews: each app gets a host name below its host. Default `localhost`. */
  readonly base?: URL | undefined
  /** How long an unused connection to an app is kept. Default 4 seconds. */
  readonly idle?: Duration.Duration
  /** Pooled connections to one port of an app at a time, and as many unpooled ones. Default 128. */
  readonly connections?: number
  /** Web sockets to one port of an app at a time. Default 256. */
  readonly webSockets?: number
}

/**
 * The interface of the proxy for a server. A method that returns false has done nothing, because the request is for
 * another host.
 */
export interface Previews {
  /** Whether the request is for a preview host. */
  readonly matches: (request: IncomingMessage) => boolean
  /** `expectsContinue`: whether the client waits for `100 Continue`. */
  readonly handleRequest: (request: IncomingMessage, response: ServerResponse, expectsContinue: boolean) => boolean
  readonly handleUpgrade: (request: IncomingMessage, socket: Duplex, head: Buffer) => boolean
  /** Aborts open exchanges and web sockets, and destroys the connections of further requests. */
  readonly close: () => void
}

/** How long a side of a web socket may keep sending after the other side has ended, and when keep-alive probes begin. */
const tunnelGrace = Duration.seconds(10)

/** Functions that abort open exchanges and web sockets, by client connection: one connection can carry several. */
class OpenExchanges {
  readonly #bySocket = new Map<Duplex, Set<() => void>>()

  on(socket: Duplex): Set<() => void> {
    const known = this.#bySocket.get(socket)
    if (known !== undefined) return known
    const aborts = new Set<() => void>()
    this.#bySocket.set(socket, aborts)
    socket.once("close", () => {
      this.#bySocket.delete(socket)
      for (const abort of aborts) abort()
    })
    return aborts
  }

  abortAll(): void {
    for (const [socket, aborts] of this.#bySocket) {
      if (aborts.size > 0) socket.destroy()
      for (const abort of aborts) abort()
    }
  }
}

/** Counts open web sockets by app and port. */
class WebSocketCounts {
  readonly #counts = new Map<string, number>()

  of(key: string): number {
    return this.#counts.get(key) ?? 0
  }

  add(key: string, by: 1 | -1): void {
    const count = this.of(key) + by
    if (count === 0) this.#counts.delete(key)
    else this.#counts.set(key, count)
  }
}

/** Creates the proxy. Its connections close with the scope. */
export const make = Effect.fnUntraced(function* (options: PreviewOptions) {
  const { base, connections: maxConnections = 128, webSockets = 256 } = options
  // Node's HTTP server, which most dev servers use, closes an idle connection after five seconds.
  const { idle = Duration.seconds(4) } = options
  const apps = yield* AppPreviews
  const fork: Fork = yield* FiberSet.makeRuntime<never, void, ConnectionFailure>()
  const connect: Connect = (name, port) => Effect.tapCause(apps.connect(name, port), logFailure)
  const agents = {
    pooled: new PreviewAgent({ connect, fork, maxConnections, idle }),
    dedicated: new PreviewAgent({ connect, fork, maxConnections })
  }
  const open = new OpenExchanges()
  const tunnels = new WebSocketCounts()
  let isClosed = false

  const close = () => {
    isClosed = true
    open.abortAll()
    for (const agent of Object.values(agents)) agent.destroy()
  }
  yield* Effect.addFinalizer(() => Effect.sync(close))

  const forward = (exchange: Omit<ExchangeOptions, "protocol" | "onEnd">) => {
    const protocol = base?.protocol.slice(0, -1) ?? "http"
    const aborts = open.on(exchange.request.socket)
    const abort = startExchange({ ...exchange, protocol, onEnd: () => aborts.delete(abort) }, agents)
    aborts.add(abort)
  }

  const afterGrace = (callback: () => void) => {
    const fiber = fork(Effect.delay(Effect.sync(callback), tunnelGrace))
    return () => fiber.interruptUnsafe()
  }

  const forwardUpgrade = (request: IncomingMessage, socket: Socket, head: Buffer, target: PreviewTarget) => {
    const key = `${target.name}:${target.port}`
    const response = responseOn(socket, request)
    if (tunnels.of(key) >= webSockets) return sendPage(request, response, "unreachable")
    const takeEarlyBytes = bufferEarlyBytes(socket, head)
    const onUpgrade = (app: Duplex, accepted: Buffer, appHead: Buffer) => {
      response.detachSocket(socket)
      tunnels.add(key, 1)
      app.once("close", () => tunnels.add(key, -1))
      open.on(socket).add(() => app.destroy())
      // Detects a client that disappeared without closing its connection.
      socket.setKeepAlive(true, Duration.toMillis(tunnelGrace))
      socket.write(Buffer.concat([accepted, appHead]))
      app.write(takeEarlyBytes())
      join(socket, app, afterGrace)
    }
    forward({ request, response, target, onUpgrade })
  }

  const addressOf = (request: IncomingMessage) => parseHosts(base, hostsOf(request))

  return {
    matches: (request) => addressOf(request)._tag !== "NotPreview",
    handleRequest: (request, response, expectsContinue) => {
      const address = addressOf(request)
      if (address._tag === "NotPreview") return false
      if (isClosed) request.socket.destroy()
      else if (address._tag === "App") forward({ request, response, expectsContinue, target: address.target })
      else {
        request.resume()
        sendPage(request, response, "stopped")
      }
      return true
    },
    handleUpgrade: (request, socket, head) => {
      const address = addressOf(request)
      if (address._tag === "NotPreview") return false
      socket.on("error", () => socket.destroy())
      if (isClosed || !(socket instanceof Socket)) socket.destroy()
      else if (address._tag === "NoApp") sendPage(request, responseOn(socket, request), "stopped")
      else forwardUpgrade(request, socket, head, address.target)
      return true
    },
    close
  } satisfies Previews as Previews
})

/** A response on the connection of an upgrade request; the connection closes after it. */
const responseOn = (socket: Socket, request: IncomingMessage) => {
  const response = new ServerResponse(request)
  response.shouldKeepAlive = false
  response.assignSocket(socket)
  return response.once("finish", () => socket.destroySoon())
}

const logFailure = (cause: Cause.Cause<ConnectionFailure>) =>
  Cause.hasInterruptsOnly(cause) || Cause.squash(cause) instanceof PreviewUnavailable
    ? Effect.void
    : Effect.logWarning("Failed to connect to app", cause)
