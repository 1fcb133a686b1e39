import { PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import * as NodeWS from "@effect/platform-node/NodeWS"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { once } from "node:events"
import { type IncomingMessage, request } from "node:http"
import { connect, type Socket } from "node:net"
import { app, ask, begin, hostOf, previewServer, loopback, rawApp, say, until } from "./PreviewFixture.ts"

/** An app whose web sockets echo messages, and send `closing` before they close on their own. */
const echoing = Effect.gen(function* () {
  const seen: Array<IncomingMessage> = []
  const closed: Array<number> = []
  const sockets = new NodeWS.WebSocketServer({ noServer: true })
  const theApp = yield* app((_, response) => response.end("no web socket"))
  theApp.server.on("upgrade", (asked, socket, head) => {
    seen.push(asked)
    sockets.handleUpgrade(asked, socket, head, (ws) => {
      ws.on("message", (data, isBinary) => {
        if (data.toString() === "close") {
          ws.send("closing")
          ws.close(4000, "as told")
        } else ws.send(data, { binary: isBinary })
      })
      ws.on("close", (code) => closed.push(code))
    })
  })
  return { ...theApp, seen, closed }
})

const open = (port: number, host: string, headers: Record<string, string> = {}) =>
  Effect.promise(async () => {
    const ws = new NodeWS.WebSocket(`ws://127.0.0.1:${port}/hmr?token=1`, ["vite-hmr"], {
      headers: { host, ...headers }
    })
    ws.on("error", () => {})
    await once(ws, "open")
    return ws
  })

const told = (ws: NodeWS.WebSocket, message: string | Buffer) =>
  Effect.promise(async () => {
    const heard = once(ws, "message") as Promise<[Buffer]>
    ws.send(message)
    return (await heard)[0]
  })

const handshake = (host: string, more = "") =>
  `GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n${more}\r\n`

describe("A web socket", () => {
  it.live("forwards messages of any length in both directions", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* echoing
      const ws = yield* open(port, hostOf(theApp.port))
      assert.strictEqual(ws.protocol, "vite-hmr")
      assert.strictEqual(theApp.seen[0]!.url, "/hmr?token=1")
      assert.strictEqual((yield* told(ws, "hello")).toString(), "hello")
      const long = Buffer.alloc(5 * 1024 * 1024, "castellan preview ")
      assert.isTrue(long.equals(yield* told(ws, long)))
      ws.terminate()
    }).pipe(Effect.scoped)
  )

  it.live("is closed on the app's side with the browser's close code and reason", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* echoing
      const ws = yield* open(port, hostOf(theApp.port))
      const closing = once(ws, "close")
      ws.close(4001)
      yield* Effect.promise(() => closing)
      yield* until(() => theApp.closed.length === 1)
      assert.deepStrictEqual(theApp.closed, [4001])
      yield* until(() => theApp.sockets.size === 0)
      const left = yield* open(port, hostOf(theApp.port))
      left.terminate()
      yield* until(() => theApp.sockets.size === 0)
    }).pipe(Effect.scoped)
  )

  it.live("is closed on the browser's side after all messages of the app", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* echoing
      const ws = yield* open(port, hostOf(theApp.port))
      const closing = once(ws, "close") as Promise<[number, Buffer]>
      assert.strictEqual((yield* told(ws, "close")).toString(), "closing")
      const [code, reason] = yield* Effect.promise(() => closing)
      assert.deepStrictEqual([code, reason.toString()], [4000, "as told"])
      const broken = yield* open(port, hostOf(theApp.port))
      const breaking = once(broken, "close") as Promise<[number]>
      for (const socket of theApp.sockets) socket.destroy()
      assert.strictEqual((yield* Effect.promise(() => breaking))[0], 1006)
    }).pipe(Effect.scoped)
  )

  it.live("loses no bytes that arrive together with the handshake", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const heard: Array<string> = []
      const theApp = yield* rawApp((socket) => {
        socket.setEncoding("latin1").once("data", (head: string) => {
          heard.push(head.split("\r\n\r\n")[1]!)
          socket.write(
            "HTTP/1.1 101 Fine\r\nconnection: upgrade\r\nupgrade: websocket\r\nset-cookie: a=1\r\nx-a: b\r\n\r\nfirst"
          )
          socket.on("data", (more: string) => {
            heard.push(more)
            socket.end("last")
          })
        })
      })
      const said = yield* say(port, `${handshake(hostOf(theApp.port))}early`)
      assert.match(said, /^HTTP\/1\.1 101 Switching Protocols\r\n/)
      assert.match(said, /\r\nx-a: b\r\n[^]*\r\n\r\nfirstlast$/)
      assert.notMatch(said, /set-cookie/i)
      assert.deepStrictEqual(heard, ["", "early"])
    }).pipe(Effect.scoped)
  )

  it.live("has the app's own origin if it was opened from the preview, and its real origin otherwise", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* echoing
      const host = `${hostOf(theApp.port)}:${port}`
      const origins = [
        `http://${host}`,
        `http://${host.toUpperCase()}`,
        `https://${host}`,
        `http://localhost:${port}`,
        "null"
      ]
      for (const origin of origins) (yield* open(port, host, { origin, cookie: "secret" })).terminate()
      const own = `http://127.0.0.1:${theApp.port}`
      assert.deepStrictEqual(
        theApp.seen.map(({ headers }) => headers.origin),
        [own, own, ...origins.slice(2)]
      )
      for (const { headers } of theApp.seen) {
        assert.strictEqual(headers.host, `127.0.0.1:${theApp.port}`)
        assert.strictEqual(headers["x-forwarded-host"], host)
        assert.isUndefined(headers.cookie)
      }
    }).pipe(Effect.scoped)
  )

  it.live("that the app refuses gets the app's response, and its connection is closed", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* app((_, response) => response.writeHead(426, { "x-a": "b" }).end("not here"))
      const said = yield* say(port, handshake(hostOf(theApp.port)))
      assert.match(said, /^HTTP\/1\.1 426 Upgrade Required\r\n/)
      assert.match(said, /\r\nx-a: b\r\n/)
      assert.match(said, /not here/)
    }).pipe(Effect.scoped)
  )

  it.live("to an unavailable app is refused like any request, and its connection is closed", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const closed = yield* say(port, handshake(hostOf(1024)))
      assert.match(closed, /^HTTP\/1\.1 503 Service Unavailable\r\n[^]*This app is starting\.\n$/)
      const stopped = yield* say(port, handshake(hostOf(1024, "app-two")))
      assert.match(stopped, /^HTTP\/1\.1 404 Not Found\r\n[^]*This app has stopped\.\n$/)
      const unknown = yield* say(port, handshake("x.localhost", "content-length: 5\r\n"))
      const undated = (text: string) => text.replace(/Date: [^\r]*/, "")
      assert.strictEqual(undated(unknown), undated(stopped))
    }).pipe(Effect.scoped)
  )

  it.live("counts towards the app's connection limit", () =>
    Effect.gen(function* () {
      const port = yield* previewServer({ webSockets: 2 })
      const theApp = yield* echoing
      const host = hostOf(theApp.port)
      const first = yield* open(port, host)
      yield* open(port, host)
      assert.match(yield* say(port, handshake(host)), /^HTTP\/1\.1 503 /)
      first.terminate()
      yield* until(() => theApp.sockets.size === 1)
      yield* open(port, host)
    }).pipe(Effect.scoped)
  )

  it.live("is not opened for another upgrade protocol, whose request is answered without an upgrade", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* app((asked, response) => response.end(`${asked.headers.upgrade}`))
      const headers = { connection: "Upgrade, HTTP2-Settings", upgrade: "h2c", "http2-settings": "AAMAAABkAAQ" }
      const { status, text } = yield* ask(port, hostOf(theApp.port), { headers })
      assert.deepStrictEqual([status, text], [200, "undefined"])
    }).pipe(Effect.scoped)
  )

  it.live("to the API's host is handled by the API", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      yield* echoing
      assert.match(yield* say(port, handshake(`localhost:${port}`)), /^HTTP\/1\.1 200 [^]*the API: \//)
    }).pipe(Effect.scoped)
  )
})

describe("Closing the server", () => {
  it.live("closes open preview connections without waiting for them", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const theApp = yield* echoing
      theApp.server.removeAllListeners("request").on("request", (asked, response) => {
        if (asked.url === "/events") response.write("data: 1\n\n")
        if (asked.url === "/kept") response.end("x")
      })
      const port = yield* Effect.provideService(previewServer(), Scope.Scope, scope)
      const host = hostOf(theApp.port)
      const ws = yield* open(port, host)
      const events = yield* Effect.promise(() => begin(port, host, { path: "/events" }))
      const broken = once(events, "error")
      const silent = request({ agent: false, host: "127.0.0.1", port, headers: { host } }).end()
      const unanswered = once(silent, "error")
      yield* ask(port, host, { path: "/kept" })
      yield* until(() => theApp.accepted() >= 4)
      const closing = once(ws, "close")
      const begun = Date.now()
      yield* Scope.close(scope, Exit.void)
      assert.isBelow(Date.now() - begun, 1500)
      yield* Effect.promise(() => Promise.all([closing, unanswered, broken]).catch(() => undefined))
      yield* until(() => theApp.sockets.size === 0)
    }).pipe(Effect.scoped)
  )

  it.live("interrupts requests that still wait for an app", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      let waiting = 0
      const toApp = () =>
        Effect.suspend(() => {
          waiting++
          return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void waiting--))
        })
      const port = yield* Effect.provideService(previewServer({ toApp }), Scope.Scope, scope)
      const client: Socket = connect({ host: "127.0.0.1", port })
      client.on("error", () => {})
      const gone = once(client, "close")
      client.write(`GET / HTTP/1.1\r\nhost: ${hostOf(2000)}\r\n\r\n`)
      client.resume()
      yield* until(() => waiting === 1)
      yield* Scope.close(scope, Exit.void)
      yield* Effect.promise(() => gone)
      assert.strictEqual(waiting, 0)
    }).pipe(Effect.scoped)
  )

  it.live("is not needed to release a request whose client disconnects while the app is starting", () =>
    Effect.gen(function* () {
      let waiting = 0
      const never = Effect.suspend(() => {
        waiting++
        return Effect.onInterrupt(Effect.never, () => Effect.sync(() => void waiting--))
      })
      const theApp = yield* echoing
      const port = yield* previewServer({
        toApp: (_, to) =>
          to === 2000
            ? never
            : Effect.catchTag(loopback(to), "PortClosed", () => new PreviewUnavailable({ state: "starting" }))
      })
      for (const words of [`GET / HTTP/1.1\r\nhost: ${hostOf(2000)}\r\n\r\n`, handshake(hostOf(2000))]) {
        const client = connect({ host: "127.0.0.1", port })
        client.write(words)
        yield* until(() => waiting === 1)
        client.destroy()
        yield* until(() => waiting === 0)
      }
      assert.strictEqual((yield* ask(port, hostOf(theApp.port))).text, "no web socket")
    }).pipe(Effect.scoped)
  )
})
