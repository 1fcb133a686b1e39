/** Prepares sockets and dials ports of the host. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { Effect } from "effect"
import { connect, type Socket } from "node:net"

/** The addresses at which programs of the host may listen. */
const loopbacks = ["127.0.0.1", "::1"]

/** Milliseconds in which a program of the host must accept a connection. */
const acceptTimeout = 2000

/**
 * Lets either side end the connection first, and lets it fail before an error listener is added. Call it in the same tick in
 * which the socket arrives: an error may be emitted in the next one.
 */
export const adoptSocket = (socket: Socket): Socket => {
  socket.allowHalfOpen = true
  return socket.on("error", () => undefined).setNoDelay()
}

/** A connection to a port of the host; undefined if no program accepts it. */
export const dialHost = (port: Port): Effect.Effect<Socket | undefined> =>
  Effect.callback((resume) => {
    const dial = ([host, ...others]: ReadonlyArray<string>) => {
      if (host === undefined) return resume(Effect.undefined)
      const socket = adoptSocket(connect({ port, host }))
      const dialNext = () => dial(others)
      socket.setTimeout(acceptTimeout, () => socket.destroy(new Error("the connection was not accepted in time")))
      socket.once("error", dialNext)
      socket.once("connect", () => {
        socket.off("error", dialNext).setTimeout(0)
        resume(Effect.succeed(socket))
      })
    }
    dial(loopbacks)
  })
