/** The server before both: requests for an app's host go to the proxy, all others to whoever listens. */
import { type IncomingMessage, Server, type ServerResponse } from "node:http"
import type { Duplex } from "node:stream"
import type { Previews } from "./Preview.ts"

const isWebSocket = ({ headers }: IncomingMessage) => headers.upgrade?.toLowerCase() === "websocket"

/** A server whose listeners never hear of requests for a preview's host. Closing it ends what previews have open. */
export class PreviewServer extends Server {
  readonly #previews: Previews

  constructor(previews: Previews) {
    super({
      // Who offers an app another protocol than web sockets is answered in the one it came with.
      shouldUpgradeCallback: (request) =>
        previews.takes(request) ? isWebSocket(request) : this.listenerCount("upgrade") > 0
    })
    this.#previews = previews
  }

  override emit(event: string | symbol, ...given: ReadonlyArray<any>): boolean {
    return this.#isSeenTo(event, given) || super.emit(event as string, ...given)
  }

  #isSeenTo(event: string | symbol, given: ReadonlyArray<unknown>): boolean {
    switch (event) {
      case "request":
      case "checkContinue": {
        const [request, response] = given as [IncomingMessage, ServerResponse]
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
