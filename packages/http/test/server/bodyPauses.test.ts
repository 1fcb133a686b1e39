/** Requests whose clients pause while they send the body. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { once } from "node:events"
import type { RequestListener } from "node:http"
import { type AddressInfo, connect } from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { PreviewServer } from "../../src/server/PreviewServer.ts"

const noPreviews = {
  matches: () => false,
  handleRequest: () => false,
  handleUpgrade: () => false,
  close: () => undefined
}

const timeout = 200

/** Sends the head of a request with a body of four bytes, then runs `send`; gives all that the server responds. */
const respond = (listener: RequestListener, send: (write: (bytes: string) => void) => Promise<void>) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const server = new PreviewServer(noPreviews, { bodyIdleTimeout: timeout }).on("request", listener)
      await once(server.listen(0, "127.0.0.1"), "listening")
      return server
    }),
    (server) =>
      Effect.promise(async () => {
        const socket = connect((server.address() as AddressInfo).port, "127.0.0.1")
        let text = ""
        socket.setEncoding("utf8").on("data", (more) => (text += more))
        socket.on("error", () => undefined)
        const closed = once(socket, "close")
        socket.write("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nconnection: close\r\n\r\n")
        await send((bytes) => void socket.write(bytes))
        await closed
        return text
      }),
    (server) => Effect.sync(() => (server.closeAllConnections(), server.close()))
  )

const readAndEnd: RequestListener = (request, response) => {
  request.resume().once("end", () => response.end("done"))
}

describe("A client that pauses within a request body", () => {
  it.live("gets 408 after the idle timeout, and its connection is closed", () =>
    Effect.gen(function* () {
      const text = yield* respond(readAndEnd, async (write) => write("ab"))
      assert.match(text, /^HTTP\/1\.1 408 Request Timeout\r\n[^]*connection: close\r\n/)
      assert.include(text, '"code":"request_timeout"')
    })
  )

  it.live("gets its response if every pause is shorter than the idle timeout", () =>
    Effect.gen(function* () {
      const text = yield* respond(readAndEnd, async (write) => {
        for (const byte of "abcd") {
          await sleep(timeout * 0.6)
          write(byte)
        }
      })
      assert.match(text, /^HTTP\/1\.1 200 OK\r\n/)
    })
  )

  it.live("gets its response if the server takes long to respond after the whole body", () =>
    Effect.gen(function* () {
      const slow: RequestListener = (request, response) => {
        request.resume().once("end", () => setTimeout(() => response.end("done"), timeout * 2))
      }
      assert.match(yield* respond(slow, async (write) => write("abcd")), /^HTTP\/1\.1 200 OK\r\n/)
    })
  )

  it.live("gets its response if the server has not read what the client has sent", () =>
    Effect.gen(function* () {
      let onRead = () => {}
      const reading = new Promise<void>((resolve) => (onRead = resolve))
      const late: RequestListener = (request, response) => {
        setTimeout(() => {
          readAndEnd(request, response)
          onRead()
        }, timeout * 2.5)
      }
      const text = yield* respond(late, async (write) => {
        write("ab")
        await reading
        write("cd")
      })
      assert.match(text, /^HTTP\/1\.1 200 OK\r\n/)
    })
  )
})
