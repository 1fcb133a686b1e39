/** Node's HTTP server of the process: requests for preview hosts go to the proxy, all others to the API. */
import { type IncomingMessage, Server, type ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { kindOf, refuse, refuseOn } from "../middleware/MalformedRequests.ts"
import type { Previews } from "../preview/Preview.ts"
import { hasBody } from "../preview/PreviewHeaders.ts"

/** Milliseconds within which a whole request must arrive: enough for 50 MiB at 30 KiB/s. Headers have a minute. */
const requestTimeout = 30 * 60_000

/** Milliseconds that a client may pause within a request body. */
const defaultBodyIdleTimeout = 5 * 60_000

export interface PreviewServerOptions {
  /** Milliseconds that a client may pause within a request body. Default 5 minutes. */
  readonly bodyIdleTimeout?: number
}

const isWebSocket = ({ headers }: IncomingMessage) => headers.upgrade?.toLowerCase() === "websocket"

/** A server that emits no events for requests to preview hosts. Closing it closes the proxy. */
export class PreviewServer extends Server {
  readonly #previews: Previews
  readonly #bodyIdleTimeout: number
  /** Responses of the API that are not finished. */
  readonly #responses = new Set<ServerResponse>()
  #isDraining = false
  #idleCallbacks: Array<() => void> = []

  constructor(previews: Previews, { bodyIdleTimeout = defaultBodyIdleTimeout }: PreviewServerOptions = {}) {
    super({
      // Requests without a Host are refused below, with the error body that all errors have.
      requireHostHeader: false,
      requestTimeout,
      // Detects clients that disappeared without closing their connection.
      keepAlive: true,
      keepAliveInitialDelay: 15_000,
      // A request to upgrade an app's connection to anything but a web socket is handled as an ordinary request.
      shouldUpgradeCallback: (request) =>
        previews.matches(request) ? isWebSocket(request) : this.listenerCount("upgrade") > 0
    })
    this.#previews = previews
    this.#bodyIdleTimeout = bodyIdleTimeout
    this.on("clientError", (cause, socket) => refuseOn(socket, kindOf(cause)))
    this.on("connect", (_, socket) => refuseOn(socket, "tunnel"))
    this.on("checkExpectation", (request, response) => refuse(request, response, "expectation"))
  }

  override emit(event: string | symbol, ...args: ReadonlyArray<any>): boolean {
    const isRequest = event === "request" || event === "checkContinue"
    if (isRequest) this.#limitBodyPauses(...(args as [IncomingMessage, ServerResponse]))
    if (this.#intercept(event, args)) return true
    if (isRequest) this.#track((args as [unknown, ServerResponse])[1])
    return super.emit(event as string, ...args)
  }

  /** Refuses a request whose client pauses too long. Node's own `requestTimeout` limits only the whole request. */
  #limitBodyPauses(request: IncomingMessage, response: ServerResponse): void {
    if (!hasBody(request)) return
    const { socket } = request
    socket.setTimeout(this.#bodyIdleTimeout)
    response.on("timeout", () => {
      if (request.complete) socket.setTimeout(0)
      // The client has sent bytes that the handler has not read: the handler is slow, not the client.
      else if (request.readableLength > 0) socket.setTimeout(this.#bodyIdleTimeout)
      else refuseOn(socket, "timeout")
    })
  }

  #track(response: ServerResponse): void {
    if (this.#isDraining) response.shouldKeepAlive = false
    this.#responses.add(response)
    response.once("close", () => {
      this.#responses.delete(response)
      if (this.#responses.size > 0) return
      for (const callback of this.#idleCallbacks.splice(0)) callback()
    })
  }

  /** Closes the proxy and idle connections; from now on each response is the last on its connection. */
  drain(): void {
    this.#isDraining = true
    this.#previews.close()
    for (const response of this.#responses) response.shouldKeepAlive = false
    this.closeIdleConnections()
  }

  /** Calls back once no API request is being handled. */
  whenIdle(callback: () => void): void {
    if (this.#responses.size === 0) callback()
    else this.#idleCallbacks.push(callback)
  }

  /** Handles an event that must not reach the API's listeners; returns false otherwise. */
  #intercept(event: string | symbol, args: ReadonlyArray<unknown>): boolean {
    switch (event) {
      case "request":
      case "checkContinue": {
        const [request, response] = args as [IncomingMessage, ServerResponse]
        if (request.headers.host === undefined && request.httpVersion === "1.1") {
          refuse(request, response, "host")
          return true
        }
        return this.#previews.handleRequest(request, response, event === "checkContinue")
      }
      case "upgrade":
        return this.#previews.handleUpgrade(...(args as [IncomingMessage, Duplex, Buffer]))
      default:
        return false
    }
  }

  override close(callback?: (failure?: Error) => void): this {
    this.#previews.close()
    return super.close(callback)
  }
}
