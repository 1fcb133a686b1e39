/** Writes a response to the socket, and applies the faults of its transport. */
import { Effect } from "effect"
import type { IncomingMessage, ServerResponse } from "node:http"
import type { ResponseWriter } from "./responses.ts"
import type { Fault } from "../Faults.ts"

/** The writer of a request, as the server uses it. */
export interface ServerResponseWriter extends ResponseWriter {
  /** Sets the status of the response before it begins. */
  readonly setStatus: (status: number) => void
  /** Ends the body unless the connection is closed. */
  readonly end: () => void
}

const newline = 0x0a

/** The bytes up to the end of `lines` lines. */
const upToLine = (bytes: Uint8Array, lines: number) => {
  let end = 0
  for (let left = lines; left > 0 && end < bytes.length; end++) if (bytes[end] === newline) left--
  return bytes.subarray(0, end)
}

const linesIn = (bytes: Uint8Array) => bytes.reduce((count, byte) => count + (byte === newline ? 1 : 0), 0)

/** Yields to the event loop, so that the sent bytes arrive as a chunk of their own. */
const moment = Effect.callback<void>((resume) => void setImmediate(() => resume(Effect.void)))

/** Makes the writer of a request. */
export const makeWriter = (
  request: IncomingMessage,
  response: ServerResponse,
  fault: Fault | undefined,
  fork: (effect: Effect.Effect<void>) => void,
  answered: (status: number) => void
): ServerResponseWriter => {
  let status = 200
  let bytesLeft = fault?.kind === "reset" ? fault.afterBytes : Infinity
  let linesLeft = fault?.kind === "endedEarly" ? fault.afterLines : Infinity
  const breakOff = () => void request.socket.destroy()
  const isGone = () => response.destroyed || response.writableEnded

  const send = (bytes: Uint8Array) =>
    Effect.callback<void>((resume) => {
      if (isGone() || bytes.length === 0) return resume(Effect.void)
      const done = () => {
        response.off("close", done)
        resume(Effect.void)
      }
      response.once("close", done)
      response.write(bytes, done)
    })

  return {
    setStatus: (next) => {
      status = next
    },
    begin: (type, headers = {}) => {
      if (response.headersSent || isGone()) return
      if (fault?.kind === "droppedAfter") return breakOff()
      answered(status)
      response.writeHead(status, { "content-type": type, ...headers })
      response.flushHeaders()
      if (fault?.kind === "cutOff") fork(Effect.delay(Effect.sync(breakOff), fault.afterMs))
      // Only after the head is sent: a client repeats a request that fails before.
      if (bytesLeft === 0) response.write("", breakOff)
    },
    hasBegun: () => response.headersSent || isGone(),
    write: (bytes) =>
      Effect.suspend(() => {
        if (fault?.kind === "oneByteChunks") {
          response.socket?.setNoDelay(true)
          const one = (index: number) => Effect.andThen(send(bytes.subarray(index, index + 1)), moment)
          return Effect.forEach(bytes, (_, index) => one(index), { discard: true })
        }
        const some = upToLine(bytes.subarray(0, Math.min(bytes.length, bytesLeft)), linesLeft)
        bytesLeft -= some.length
        linesLeft -= linesIn(some)
        return Effect.tap(send(some), () =>
          Effect.sync(() => {
            if (bytesLeft <= 0) breakOff()
            else if (linesLeft <= 0) response.end()
          })
        )
      }),
    breakOff,
    end: () => {
      if (!isGone()) response.end()
    }
  }
}
