/** The server before both: requests for an app's host go to the proxy, all others to whoever listens. */
import { type IncomingMessage, Server, type ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import { kindOf, refuse, refuseOn } from "../middleware/MalformedRequests.ts"
import type { Previews } from "../preview/Preview.ts"

/** Milliseconds within which a whole request has to arrive: 50 MiB at 30 KiB a second. Headers have a minute. */
const arrivesWithin = 30 * 60_000

const isWebSocket = ({ headers }: IncomingMessage) => headers.upgrade?.toLowerCase() === "websocket"

/** A server whose listeners never hear of requests for a preview's host. Closing it ends what previews have open. */
export class PreviewServer extends Server {
  readonly #previews: Previews
  readonly #answering = new Set<ServerResponse>()
  #isRetired = false
  #whenQuiet: Array<() => void> = []

  constructor(previews: Previews) {
    super({
      // Requests without one are refused here, in the form that all errors have.
      requireHostHeader: false,
      requestTimeout: arrivesWithin,
      // A client that vanished without a word is noticed.
      keepAlive: true,
      keepAliveInitialDelay: 15_000,
      // Who offers an app another protocol than web sockets is answered in the one it came with.
      shouldUpgradeCallback: (request) =>
        previews.takes(request) ? isWebSocket(request) : this.listenerCount("upgrade") > 0
    })
    this.#previews = previews
    this.on("clientError", (cause, socket) => refuseOn(socket, kindOf(cause)))
    this.on("connect", (_, socket) => refuseOn(socket, "tunnel"))
    this.on("checkExpectation", (request, response) => refuse(request, response, "expectation"))
  }

  override emit(event: string | symbol, ...given: ReadonlyArray<any>): boolean {
    if (this.#isSeenTo(event, given)) return true
    if (event === "request" || event === "checkContinue") this.#isAnswered((given as [unknown, ServerResponse])[1])
    return super.emit(event as string, ...given)
  }

  #isAnswered(response: ServerResponse): void {
    if (this.#isRetired) response.shouldKeepAlive = false
    this.#answering.add(response)
    response.once("close", () => {
      this.#answering.delete(response)
      if (this.#answering.size > 0) return
      for (const then of this.#whenQuiet.splice(0)) then()
    })
  }

  /** From now on every answer is the last on its connection, and previews are over. */
  retire(): void {
    this.#isRetired = true
    this.#previews.close()
    for (const response of this.#answering) response.shouldKeepAlive = false
    this.closeIdleConnections()
  }

  /** Calls back once no request of the API is being answered. */
  whenQuiet(then: () => void): void {
    if (this.#answering.size === 0) then()
    else this.#whenQuiet.push(then)
  }

  #isSeenTo(event: string | symbol, given: ReadonlyArray<unknown>): boolean {
    switch (event) {
      case "request":
      case "checkContinue": {
        const [request, response] = given as [IncomingMessage, ServerResponse]
        if (request.headers.host === undefined && request.httpVersion === "1.1") {
          refuse(request, response, "host")
          return true
        }
        return this.#previews.answer(request, response, event === "checkContinue")
      }
      case "upgrade":
        return this.#previews.upgrade(...(given as [IncomingMessage, Duplex, Buffer]))
      default:
        return false
    }
  }

  override close(done?: (failure?: Error) => void): this {
    this.#previews.close()
    return super.close(done)
  }
}
