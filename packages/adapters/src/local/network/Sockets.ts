/** Connections as the server holds them. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { Effect } from "effect"
import { connect, type Socket } from "node:net"

/** Where programs listen that are to be reached at a loopback. */
const loopbacks = ["127.0.0.1", "::1"]

/** Milliseconds that a program of this host may take to accept a connection. */
const acceptedWithin = 2000

/**
 * Makes a connection one that either side may end first, and that may break before anybody listens for that. To be done
 * at the moment at which it is got: the next may be too late.
 */
export const held = (socket: Socket): Socket => {
  socket.allowHalfOpen = true
  return socket.on("error", () => undefined).setNoDelay()
}

/** A connection to a port of this host; undefined where nothing answers. */
export const dialHost = (port: Port): Effect.Effect<Socket | undefined> =>
  Effect.callback((resume) => {
    const dial = ([host, ...others]: ReadonlyArray<string>) => {
      if (host === undefined) return resume(Effect.undefined)
      const socket = held(connect({ port, host }))
      const next = () => dial(others)
      socket.setTimeout(acceptedWithin, () => socket.destroy(new Error("nobody accepts it")))
      socket.once("error", next)
      socket.once("connect", () => {
        socket.off("error", next).setTimeout(0)
        resume(Effect.succeed(socket))
      })
    }
    dial(loopbacks)
  })
