/** One HTTP exchange: forwards a request to the app and its response to the client. */
import { PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import { PortClosed } from "@castellan/domain/sandbox/SandboxProvider.ts"
import {
  type Agent,
  type ClientRequest,
  type IncomingMessage,
  request as startRequest,
  type ServerResponse
} from "node:http"
import { Socket } from "node:net"
import { type Duplex, pipeline } from "node:stream"
import { PreviewConnection } from "./PreviewConnection.ts"
import { hasBody, requestHeaders, responseHeaders } from "./PreviewHeaders.ts"
import type { PreviewTarget } from "./PreviewHost.ts"
import { type PreviewPage, sendPage } from "./PreviewPages.ts"
import { switchingProtocols } from "./PreviewTunnel.ts"

export interface ExchangeOptions {
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly target: PreviewTarget
  /** The scheme that the browser used, `http` or `https`. */
  readonly protocol: string
  /** Whether the client waits for `100 Continue` before it sends the body. */
  readonly expectsContinue?: boolean
  /** Called when the app sends nothing more, unless the request was upgraded. */
  readonly onEnd: () => void
  /** Takes over an upgraded connection: the bytes of the 101 response, and those that followed it. */
  readonly onUpgrade?: (app: Duplex, response: Buffer, head: Buffer) => void
}

export interface Agents {
  /** Reuses connections. */
  readonly pooled: Agent
  /** Opens a connection for each request, which can't fail because the app closed an idle one. */
  readonly dedicated: Agent
}

const idempotentMethods = new Set(["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])

/** Whether the request may be sent again after a pooled connection broke before a response. */
const isRepeatable = ({ onUpgrade, request }: ExchangeOptions) =>
  onUpgrade === undefined && idempotentMethods.has(request.method!) && !hasBody(request)

/** The request target without scheme and host. */
const pathOf = ({ url = "/" }: IncomingMessage) => {
  const path = url.replace(/^https?:\/\/[^/?#]*/i, "")
  return path === "" || path.startsWith("?") ? `/${path}` : path
}

const pageFor = (failure: Error, upstream: ClientRequest, request: IncomingMessage): PreviewPage => {
  const connection = upstream.socket instanceof PreviewConnection ? upstream.socket : undefined
  if (failure instanceof PreviewUnavailable) return failure.state
  // Some providers report a closed port only as a connection that breaks at once. If it took a body, something listened.
  if (failure instanceof PortClosed && connection?.hasReceived !== true && !hasBody(request)) return "starting"
  return connection?.isConnected === true ? "broken" : "unreachable"
}

class Exchange {
  readonly #options: ExchangeOptions
  readonly #agents: Agents
  #upstream: ClientRequest | undefined
  /** Aborted, or upgraded: events of the upstream request no longer matter. */
  #isOver = false

  constructor(options: ExchangeOptions, agents: Agents) {
    this.#options = options
    this.#agents = agents
  }

  start(): void {
    const { response } = this.#options
    response.once("close", () => {
      if (!response.writableFinished) this.abort()
    })
    this.#orRefuse(() => this.#send(isRepeatable(this.#options) ? this.#agents.pooled : this.#agents.dedicated))
  }

  abort(): void {
    this.#isOver = true
    this.#upstream?.destroy()
  }

  /** Node throws on a request that it can't send, such as one with an invalid header. */
  #orRefuse(step: () => void): void {
    try {
      step()
    } catch {
      this.#fail("refused")
    }
  }

  #send(agent: Agent): void {
    const { onEnd, request, response, target } = this.#options
    const { name: host, port } = target
    const upstream = startRequest({
      agent,
      host,
      port,
      setHost: false,
      method: request.method!,
      path: pathOf(request)
    })
    this.#upstream = upstream
    let isFirstUse = true
    upstream.on("socket", (connection) => {
      if (!(connection instanceof PreviewConnection)) return
      isFirstUse = connection.isUnused
      connection.isUnused = false
      connection.whenConnected((host) => {
        if (!upstream.destroyed) this.#orRefuse(() => this.#sendHeaders(upstream, host))
      })
    })
    upstream.on("response", (answer) => this.#respond(answer, upstream, agent))
    upstream.on("upgrade", (answer, app, head) => this.#upgrade(answer, app, head))
    upstream.on("error", (failure) => {
      if (this.#isOver || upstream !== this.#upstream) return
      if (!isFirstUse && !response.headersSent && isRepeatable(this.#options)) this.#send(this.#agents.dedicated)
      else this.#fail(pageFor(failure, upstream, request))
    })
    upstream.on("close", () => {
      this.#discardBody(upstream)
      if (upstream !== this.#upstream) return
      if (!response.headersSent) this.#fail("broken")
      onEnd()
    })
  }

  #sendHeaders(upstream: ClientRequest, host: string): void {
    const { expectsContinue, onUpgrade, protocol, request, response } = this.#options
    const isUpgrade = onUpgrade !== undefined
    for (const [name, values] of Object.entries(requestHeaders(request, protocol, host, isUpgrade))) {
      upstream.setHeader(name, values)
    }
    if (isUpgrade || !hasBody(request)) {
      upstream.end()
      return
    }
    if (expectsContinue === true) response.writeContinue()
    request.pipe(upstream)
  }

  #respond(answer: IncomingMessage, upstream: ClientRequest, agent: Agent): void {
    const { response } = this.#options
    const coding = answer.headers["transfer-encoding"]?.toLowerCase() ?? "chunked"
    if (answer.statusCode! < 200 || coding !== "chunked") return this.#fail("broken")
    try {
      response.writeHead(answer.statusCode!, answer.statusMessage, responseHeaders(answer))
      response.flushHeaders()
    } catch {
      return this.#fail("broken")
    }
    answer.once("end", () => {
      if (agent !== this.#agents.dedicated) return
      // The connection is not reused, and the app's response is complete: don't wait for the rest of the request body.
      this.#discardBody(upstream)
      upstream.socket?.destroy()
    })
    pipeline(answer, response, (failure) => {
      if (failure && !this.#isOver) this.#truncate()
    })
  }

  #upgrade(answer: IncomingMessage, app: Duplex, head: Buffer): void {
    const { onUpgrade } = this.#options
    if (onUpgrade === undefined) {
      app.destroy()
      return this.#fail("broken")
    }
    this.#isOver = true
    onUpgrade(app, switchingProtocols(answer), head)
  }

  /** Responds with a page, or truncates a response that has begun. */
  #fail(page: PreviewPage): void {
    const { request, response } = this.#options
    if (this.#isOver || response.writableEnded) return
    if (response.headersSent) return this.#truncate()
    this.abort()
    this.#discardBody(this.#upstream)
    sendPage(request, response, page)
  }

  /** Ends the response so that the client can't take the part that was sent for the whole. */
  #truncate(): void {
    const { response } = this.#options
    const { socket } = response
    this.abort()
    // Without chunks the end of the connection ends a response, so reset the connection instead.
    if (!response.chunkedEncoding && socket instanceof Socket) socket.resetAndDestroy()
    else response.destroy()
  }

  /** Reads and discards the rest of the request body, so that the client's connection can be reused. */
  #discardBody(upstream: ClientRequest | undefined): void {
    const { onUpgrade, request } = this.#options
    if (onUpgrade !== undefined) return
    if (upstream !== undefined) request.unpipe(upstream)
    request.resume()
  }
}

/** Starts an exchange; the returned function aborts it. */
export const startExchange = (options: ExchangeOptions, agents: Agents): (() => void) => {
  const exchange = new Exchange(options, agents)
  exchange.start()
  return () => exchange.abort()
}
