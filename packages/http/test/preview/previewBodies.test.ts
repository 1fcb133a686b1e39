import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { createHash } from "node:crypto"
import { once } from "node:events"
import { Agent, type IncomingMessage, request as requestOf } from "node:http"
import { connect } from "node:net"
import { Readable } from "node:stream"
import { app, ask, begin, hostOf, previewServer, rawApp, rest, say, until } from "./PreviewFixture.ts"

const mebibyte = Buffer.alloc(1024 * 1024, "castellan preview ")

/** A body that is generated as it is read. */
const body = (mebibytes: number) =>
  Readable.from(
    (function* () {
      for (let at = 0; at < mebibytes; at++) yield mebibyte
    })()
  )

const digestOf = async (stream: AsyncIterable<Buffer>) => {
  const hash = createHash("sha256")
  for await (const piece of stream) hash.update(piece)
  return hash.digest("hex")
}

/** Returns the number once it has stopped growing. */
const settled = (value: () => number) =>
  Effect.promise(async () => {
    for (let last = -1, same = 0; same < 10; last = value()) {
      same = value() === last ? same + 1 : 0
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return value()
  })

/** More than all buffers between two programs that communicate through the proxy. */
const much = 100

describe("A request body", () => {
  it.live("of 20 MB arrives whole, with and without a content-length", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* app(async (request, response) => {
        const { "content-length": length, "transfer-encoding": coding } = request.headers
        response.end(`${length} ${coding} ${await digestOf(request)}`)
      })
      const host = hostOf(theApp.port)
      const whole = Buffer.concat(Array.from({ length: 20 }, () => mebibyte))
      const digest = createHash("sha256").update(whole).digest("hex")
      const told = yield* ask(port, host, { method: "POST", body: whole })
      assert.strictEqual(told.text, `${whole.length} undefined ${digest}`)
      const asking = requestOf({ agent: false, host: "127.0.0.1", port, method: "PUT", headers: { host } })
      const answer = once(asking, "response") as Promise<[IncomingMessage]>
      body(20).pipe(asking)
      const untold = yield* Effect.promise(async () => rest((await answer)[0]))
      assert.strictEqual(untold.text, `undefined chunked ${digest}`)
    }).pipe(Effect.scoped)
  )

  it.live("is read no faster than the app reads it", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      let read = () => {}
      const theApp = yield* app((request, response) => {
        read = () => void digestOf(request).then((digest) => response.end(digest))
      })
      const headers = { host: hostOf(theApp.port) }
      const asking = requestOf({ agent: false, host: "127.0.0.1", port, method: "POST", headers })
      const answer = once(asking, "response") as Promise<[IncomingMessage]>
      body(much).pipe(asking)
      yield* until(() => theApp.sockets.size === 1)
      const taken = yield* settled(() => asking.socket?.bytesWritten ?? 0)
      assert.isBelow(taken, (much / 2) * mebibyte.length)
      read()
      const said = yield* Effect.promise(async () => rest((await answer)[0]))
      assert.strictEqual(said.text, yield* Effect.promise(() => digestOf(body(much))))
    }).pipe(Effect.scoped)
  )

  it.live("is not added to a request that has none", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* app((request, response) => response.end(JSON.stringify(request.rawHeaders)))
      for (const [method, length] of [
        ["GET", []],
        ["DELETE", []],
        ["POST", ["0"]]
      ] as const) {
        const said = yield* say(
          port,
          `${method} / HTTP/1.1\r\nhost: ${hostOf(theApp.port)}\r\nconnection: close\r\n\r\n`
        )
        const raw = JSON.parse(/\[.*\]/.exec(said)![0]) as ReadonlyArray<string>
        assert.deepStrictEqual(
          raw.filter((_, at) => /^content-length$/i.test(raw[at - 1] ?? "")),
          [...length]
        )
        assert.notInclude(said.toLowerCase(), 'transfer-encoding"')
      }
    }).pipe(Effect.scoped)
  )

  it.live("that the app does not read to its end does not prevent a response, and leaves no connection open", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* app((_, response) => {
        response.writeHead(413).end("too much")
      })
      const headers = { host: hostOf(theApp.port) }
      const agent = new Agent({ keepAlive: true, maxSockets: 1 })
      const asking = requestOf({ agent, host: "127.0.0.1", port, method: "POST", headers })
      asking.on("error", () => {})
      const answer = once(asking, "response") as Promise<[IncomingMessage]>
      body(much).pipe(asking)
      const said = yield* Effect.promise(async () => rest((await answer)[0]))
      assert.deepStrictEqual([said.status, said.text], [413, "too much"])
      yield* until(() => theApp.sockets.size === 0)
      assert.strictEqual((yield* ask(port, headers.host, { agent })).status, 413)
      agent.destroy()
    }).pipe(Effect.scoped)
  )
})

describe("A streamed response", () => {
  it.live("arrives chunk by chunk, its headers at once", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      let write: (text: string) => void = () => {}
      const theApp = yield* app((_, response) => {
        response.writeHead(200, { "content-type": "text/event-stream" }).flushHeaders()
        write = (text) => void response.write(text)
      })
      const answer = yield* Effect.promise(() => begin(port, hostOf(theApp.port)))
      assert.strictEqual(answer.headers["content-type"], "text/event-stream")
      for (const piece of ["data: 1\n\n", "data: 2\n\n"]) {
        write(piece)
        const [got] = yield* Effect.promise(() => once(answer, "data") as Promise<[Buffer]>)
        assert.strictEqual(got.toString(), piece)
      }
      answer.destroy()
    }).pipe(Effect.scoped)
  )

  it.live("is read from the app no faster than the client reads it, and arrives whole", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* app((_, response) => void body(much).pipe(response))
      const answer = yield* Effect.promise(() => begin(port, hostOf(theApp.port)))
      const written = () => [...theApp.sockets].reduce((sum, { bytesWritten }) => sum + bytesWritten, 0)
      assert.isBelow(yield* settled(written), (much / 2) * mebibyte.length)
      assert.strictEqual(
        yield* Effect.promise(() => digestOf(answer)),
        yield* Effect.promise(() => digestOf(body(much)))
      )
    }).pipe(Effect.scoped)
  )

  it.live("is closed on the app's side when the client disconnects", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const left: Array<string> = []
      const theApp = yield* app((request, response) => {
        response.once("close", () => left.push(`${request.url} ${response.writableFinished}`))
        if (request.url === "/answering") response.write("x")
      })
      const host = hostOf(theApp.port)
      const answering = yield* Effect.promise(() => begin(port, host, { path: "/answering" }))
      answering.destroy()
      yield* until(() => left.length === 1)
      for (const words of [
        `GET /silent HTTP/1.1\r\nhost: ${host}\r\n\r\n`,
        `POST /sending HTTP/1.1\r\nhost: ${host}\r\ncontent-length: 10\r\n\r\nhalf`,
        `GET /1 HTTP/1.1\r\nhost: ${host}\r\n\r\nGET /2 HTTP/1.1\r\nhost: ${host}\r\n\r\n`
      ]) {
        const before = theApp.accepted()
        const socket = connect({ host: "127.0.0.1", port })
        socket.write(words)
        yield* until(() => theApp.accepted() === before + (words.includes("/2") ? 2 : 1))
        yield* until(() => theApp.sockets.size > 0)
        socket.destroy()
        yield* until(() => theApp.sockets.size === 0)
      }
      assert.include(left, "/answering false")
    }).pipe(Effect.scoped)
  )

  it.live("is not ended normally when the app dies in the middle", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const heads = {
        length: "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf",
        chunked: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        silent: "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n"
      }
      const theApp = yield* rawApp((socket) =>
        socket.once("data", (head) => {
          const [, which] = /\/(\w+)/.exec(head.toString())!
          socket.end(heads[which as keyof typeof heads])
        })
      )
      for (const which of Object.keys(heads)) {
        const exit = yield* Effect.tryPromise(async () =>
          rest(await begin(port, hostOf(theApp.port), { path: `/${which}` }))
        ).pipe(Effect.exit)
        assert.isTrue(Exit.isFailure(exit), which)
      }
      // The end of the connection ends a response without a length, so an abort must be distinguishable from a normal
      // end.
      const breaking = yield* rawApp((socket) =>
        socket.once("data", () => {
          socket.write("HTTP/1.1 200 OK\r\n\r\nhalf")
          setTimeout(() => socket.resetAndDestroy(), 50)
        })
      )
      const exit = yield* Effect.exit(Effect.tryPromise(async () => rest(await begin(port, hostOf(breaking.port)))))
      assert.isTrue(Exit.isFailure(exit))
      const old = connect({ host: "127.0.0.1", port })
      old.write(`GET / HTTP/1.0\r\nhost: ${hostOf(breaking.port)}\r\n\r\n`)
      old.resume()
      const [failure] = yield* Effect.promise(() => once(old, "error").catch((error: unknown) => [error]))
      assert.strictEqual((failure as { code?: string }).code, "ECONNRESET")
    }).pipe(Effect.scoped)
  )
})
