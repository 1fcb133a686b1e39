/** Web sockets: a request that was upgraded to a bidirectional byte stream between client and app. */
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import { responseHeaders } from "./PreviewHeaders.ts"

/** The app's `101 Switching Protocols` response as bytes to send to the client. */
export const switchingProtocols = (answer: IncomingMessage): Buffer => {
  const fields = { ...responseHeaders(answer), connection: "Upgrade", upgrade: answer.headers.upgrade ?? "websocket" }
  const lines = Object.entries(fields).flatMap(([name, values]) => [values].flat().map((value) => `${name}: ${value}`))
  return Buffer.from(["HTTP/1.1 101 Switching Protocols", ...lines, "", ""].join("\r\n"), "latin1")
}

/** Bytes that a client may send before the app has accepted the upgrade. */
const maxEarlyBytes = 64 * 1024

/**
 * Buffers what a client sends before the app accepts the upgrade; without a reader, Node does not report that the client
 * disconnected. The returned function stops and gives the buffered bytes.
 */
export const bufferEarlyBytes = (client: Duplex, head: Buffer): (() => Buffer) => {
  let early = head
  const disconnect = () => client.destroy()
  const append = (more: Buffer) => {
    early = Buffer.concat([early, more])
    if (early.length > maxEarlyBytes) disconnect()
  }
  client.on("data", append).once("end", disconnect)
  return () => {
    client.off("data", append).off("end", disconnect)
    return early
  }
}

/**
 * Copies bytes both ways. When one side ends, the other side is ended, too, and may finish sending until `after` runs its
 * callback. An error on one side destroys both. `after` schedules a callback and returns a function that cancels it.
 */
export const join = (client: Duplex, app: Duplex, after: (callback: () => void) => () => void): void => {
  const destroyBoth = () => {
    client.destroy()
    app.destroy()
  }
  for (const [from, to] of [
    [client, app],
    [app, client]
  ] as const) {
    from.once("error", destroyBoth)
    from.once("end", () => {
      to.end()
      to.once("close", after(destroyBoth))
    })
    // A side that has ended may have stopped reading: read and discard what the other side still sends.
    from.once("close", () => (from.readableEnded ? to.resume() : destroyBoth()))
    from.pipe(to, { end: false })
  }
}
