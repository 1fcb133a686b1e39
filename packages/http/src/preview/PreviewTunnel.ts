/** A request that has become a connection: bytes both ways. */
import type { IncomingMessage } from "node:http"
import type { Duplex } from "node:stream"
import { fromApp } from "./PreviewHeaders.ts"

/** The head of an app's consent, as it stands on the wire. */
export const consent = (answer: IncomingMessage): Buffer => {
  const fields = { ...fromApp(answer), connection: "Upgrade", upgrade: answer.headers.upgrade ?? "websocket" }
  const lines = Object.entries(fields).flatMap(([name, values]) => [values].flat().map((value) => `${name}: ${value}`))
  return Buffer.from(["HTTP/1.1 101 Switching Protocols", ...lines, "", ""].join("\r\n"), "latin1")
}

/** Bytes that a client may send before it was told that it may. */
const earlyAtMost = 64 * 1024

/**
 * Listens to a client that waits for consent, since one who leaves is not noticed otherwise. Gives what it said meanwhile,
 * and stops listening.
 */
export const waiting = (client: Duplex, head: Buffer): (() => Buffer) => {
  let early = head
  const leave = () => client.destroy()
  const hear = (more: Buffer) => {
    early = Buffer.concat([early, more])
    if (early.length > earlyAtMost) leave()
  }
  client.on("data", hear).once("end", leave)
  return () => {
    client.off("data", hear).off("end", leave)
    return early
  }
}

/**
 * Passes on what each says until either says no more; then the other is told, and has a while to finish what it says. What
 * breaks breaks both. `late` runs what it is given after that while, and gives a way not to.
 */
export const join = (client: Duplex, app: Duplex, late: (end: () => void) => () => void): void => {
  const end = () => {
    client.destroy()
    app.destroy()
  }
  for (const [from, to] of [
    [client, app],
    [app, client]
  ] as const) {
    from.once("error", end)
    from.once("end", () => {
      to.end()
      to.once("close", late(end))
    })
    // Who has said all may have stopped listening; what the other still says is then read and dropped.
    from.once("close", () => (from.readableEnded ? to.resume() : end()))
    from.pipe(to, { end: false })
  }
}
