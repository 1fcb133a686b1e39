import { PreviewUnavailable } from "@castellan/domain/app/AppPreviews.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect } from "effect"
import { once } from "node:events"
import type { IncomingMessage } from "node:http"
import { connect } from "node:net"
import { app, ask, begin, hostOf, previewServer, loopback, name, rawApp, rest, say, until } from "./PreviewFixture.ts"

const echo = app((request, response) => {
  response.setHeader("x-from", "app")
  response.end(`${request.method} ${request.url}`)
})

describe("A preview", () => {
  it.live("forwards the app's response to any method and query", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const host = hostOf((yield* echo).port)
      for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"]) {
        const path = "/a/%2e%2e//b?x=1&y=%20&z=[]{}|^"
        const { headers, status, text } = yield* ask(port, host, { method, path })
        assert.deepStrictEqual([status, headers["x-from"], text], [200, "app", `${method} ${path}`])
      }
    }).pipe(Effect.scoped)
  )

  it.live("answers HEAD with the headers alone", () =>
    Effect.gen(function* () {
      const { port } = yield* app((request, response) => {
        response.setHeader("content-length", 17)
        response.end(request.method === "HEAD" ? undefined : "x".repeat(17))
      })
      const said = yield* say(
        yield* previewServer(),
        `HEAD / HTTP/1.1\r\nhost: ${hostOf(port)}\r\nconnection: close\r\n\r\n`
      )
      assert.match(said, /^HTTP\/1\.1 200 OK\r\n[^]*content-length: 17\r\n/i)
      assert.match(said, /\r\n\r\n$/)
    }).pipe(Effect.scoped)
  )

  it.live("does not route a path of an app's host to the API, or another host to an app", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* echo
      for (const path of ["/api/sandboxes", "/health", "/openapi.json", "/docs", "//api/keys", "/../api"]) {
        assert.strictEqual((yield* ask(port, hostOf(theApp.port), { path })).text, `GET ${path}`)
        for (const host of [
          `localhost:${port}`,
          `127.0.0.1:${port}`,
          "castellan.test",
          `${theApp.port}-${name}.test`
        ]) {
          assert.strictEqual((yield* ask(port, host, { path })).text, `the API: ${path}`)
        }
        for (const host of ["x.localhost", `a.${hostOf(theApp.port)}`, hostOf(theApp.port, "app-two")]) {
          const { headers, status } = yield* ask(port, host, { path })
          assert.deepStrictEqual([status, headers["x-from"]], [404, undefined])
        }
      }
      assert.strictEqual((yield* ask(port, `${hostOf(theApp.port).toUpperCase()}.:1`)).status, 200)
    }).pipe(Effect.scoped)
  )

  it.live("refuses a request with contradictory hosts", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* echo
      const host = hostOf(theApp.port)
      const asked = (target: string, ...hosts: ReadonlyArray<string>) =>
        say(
          port,
          [`GET ${target} HTTP/1.1`, ...hosts.map((one) => `Host: ${one}`), "connection: close", "", ""].join("\r\n")
        )
      assert.match(yield* asked(`http://${host}/x?y`, host), /^HTTP\/1\.1 200 [^]*GET \/x\?y$/)
      assert.match(yield* asked(`http://${host}?y`, host), /^HTTP\/1\.1 200 [^]*GET \/\?y$/)
      for (const mixed of [
        asked(`http://${host}/api/keys`, "localhost"),
        asked(`http://localhost/api/keys`, host),
        asked("/api/keys", "localhost", host),
        asked("/api/keys", host, "localhost"),
        asked("/api/keys", host, hostOf(theApp.port, "app-two")),
        asked(`http://localhost@${host}/`, "localhost")
      ]) {
        assert.match(yield* mixed, /^HTTP\/1\.1 404 [^]*This app has stopped/)
      }
      assert.match(yield* asked("/api/keys", "localhost", "a.test"), /the API: \/api\/keys/)
    }).pipe(Effect.scoped)
  )

  it.live("forwards 204, 304, informational responses and responses without a length", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* rawApp((socket) => {
        socket.once("data", (head) => {
          const path = /^\w+ (\S+)/.exec(head.toString())![1]!
          const answers: Record<string, string> = {
            "/204": "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\nx-a: b\r\n\r\n",
            "/304": 'HTTP/1.1 304 Not Modified\r\ncontent-length: 99\r\netag: "a"\r\n\r\n',
            "/103":
              "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\nHTTP/1.1 200 Fine\r\ncontent-length: 2\r\n\r\nok",
            "/100": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Made\r\ncontent-length: 2\r\n\r\nok",
            "/until-end": "HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\nall there is"
          }
          socket.end(answers[path]!)
        })
      })
      const asked = (path: string) => ask(port, hostOf(theApp.port), { path })
      const none = yield* asked("/204")
      assert.deepStrictEqual([none.status, none.headers["x-a"], none.text], [204, "b", ""])
      assert.isUndefined(none.headers["content-length"])
      const same = yield* asked("/304")
      assert.deepStrictEqual([same.status, same.headers.etag, same.text], [304, '"a"', ""])
      for (const [path, status, text] of [
        ["/103", 200, "ok"],
        ["/100", 201, "ok"],
        ["/until-end", 200, "all there is"]
      ] as const) {
        const said = yield* asked(path)
        assert.deepStrictEqual([said.status, said.text], [status, text])
      }
    }).pipe(Effect.scoped)
  )

  it.live("sends 100 Continue once the app is connected, and not if it is unavailable", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* app(async (request, response) => response.end(await textOf(request)))
      const expecting = (host: string) =>
        Effect.promise(async () => {
          const socket = connect({ host: "127.0.0.1", port })
          let said = ""
          socket.setEncoding("latin1").on("data", (piece) => {
            said += piece
            if (said.endsWith("100 Continue\r\n\r\n")) socket.write("the body")
          })
          socket.write(`POST / HTTP/1.1\r\nhost: ${host}\r\ncontent-length: 8\r\nexpect: 100-continue\r\n\r\n`)
          while (!/\r\n\r\n.*(the body|stopped\.\n)$/s.test(said)) await once(socket, "data")
          socket.destroy()
          return said
        })
      assert.match(yield* expecting(hostOf(theApp.port)), /^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/)
      assert.match(yield* expecting(hostOf(theApp.port, "app-two")), /^HTTP\/1\.1 404 Not Found\r\n/)
    }).pipe(Effect.scoped)
  )

  it.live("serves 200 concurrent requests", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const { port: to } = yield* app((request, response) => setTimeout(() => response.end(request.url), 20))
      const said = yield* Effect.forEach(
        Array.from({ length: 200 }, (_, at) => `/${at}`),
        (path) => Effect.map(ask(port, hostOf(to), { path }), ({ text }) => [path, text]),
        { concurrency: "unbounded" }
      )
      for (const [path, text] of said) assert.strictEqual(text, path)
    }).pipe(Effect.scoped)
  )

  it.live("limits the connections to an app, and queues further requests", () =>
    Effect.gen(function* () {
      const port = yield* previewServer({ connections: 3 })
      let most = 0
      let now = 0
      const theApp = yield* app((_, response) => {
        most = Math.max(most, ++now)
        response.once("finish", () => now--)
        setTimeout(() => response.end("ok"), 5)
      })
      for (const method of ["GET", "POST"]) {
        const said = yield* Effect.all(
          Array.from({ length: 20 }, () => ask(port, hostOf(theApp.port), { method })),
          { concurrency: "unbounded" }
        )
        assert.isTrue(said.every(({ text }) => text === "ok"))
      }
      assert.strictEqual(most, 3)
    }).pipe(Effect.scoped)
  )

  it.live("serves other apps and the API while one app hangs", () =>
    Effect.gen(function* () {
      const port = yield* previewServer({ connections: 2 })
      const hanging = yield* app(() => {})
      const healthy = yield* echo
      const waiting = Array.from({ length: 10 }, () => begin(port, hostOf(hanging.port)))
      yield* until(() => hanging.accepted() === 2)
      assert.strictEqual((yield* ask(port, hostOf(healthy.port))).status, 200)
      assert.strictEqual((yield* ask(port, "localhost")).text, "the API: /")
      for (const socket of hanging.sockets) socket.destroy()
      hanging.server.removeAllListeners("request").on("request", (_, response) => response.end("late"))
      const late = yield* Effect.promise(async () => Promise.all((await Promise.all(waiting)).map(rest)))
      assert.deepStrictEqual(
        late.map(({ status }) => status),
        [502, 502, 200, 200, 200, 200, 200, 200, 200, 200]
      )
    }).pipe(Effect.scoped)
  )
})

const textOf = async (stream: IncomingMessage) => {
  let text = ""
  for await (const piece of stream) text += String(piece)
  return text
}

describe("A connection to an app", () => {
  it.live("is reused for idempotent requests, and closed when it is idle", () =>
    Effect.gen(function* () {
      const port = yield* previewServer({ idle: Duration.millis(100) })
      const theApp = yield* echo
      const host = hostOf(theApp.port)
      for (let turn = 0; turn < 20; turn++) yield* ask(port, host)
      assert.strictEqual(theApp.accepted(), 1)
      yield* until(() => theApp.sockets.size === 0)
      yield* ask(port, host, { method: "POST", body: "x" })
      yield* ask(port, host, { method: "POST", body: "x" })
      assert.strictEqual(theApp.accepted(), 3)
    }).pipe(Effect.scoped)
  )

  it.live("that breaks when it is reused is replaced once, without an error to the client", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      let asked = 0
      const theApp = yield* app((request, response) => {
        asked++
        if (request.url === "/break" && theApp.sockets.size === 1 && theApp.accepted() === 1) request.socket.destroy()
        else response.end(`${request.method} at connection ${theApp.accepted()}`)
      })
      const host = hostOf(theApp.port)
      yield* ask(port, host)
      assert.strictEqual((yield* ask(port, host, { path: "/break" })).text, "GET at connection 2")
      assert.strictEqual(asked, 3)

      const broken = yield* rawApp((socket) => socket.once("data", () => socket.destroy()))
      assert.strictEqual((yield* ask(port, hostOf(broken.port))).status, 502)
      assert.strictEqual(broken.accepted(), 1)
    }).pipe(Effect.scoped)
  )

  it.live("that receives unsolicited bytes is not reused", () =>
    Effect.gen(function* () {
      const port = yield* previewServer({ idle: Duration.minutes(1) })
      const answer = (text: string) => `HTTP/1.1 200 OK\r\ncontent-length: ${text.length}\r\n\r\n${text}`
      const theApp = yield* rawApp((socket) => {
        const turn = theApp.accepted()
        socket.on("data", () => socket.write(answer(`asked at ${turn}`))).on("end", () => socket.end())
      })
      const host = hostOf(theApp.port)
      assert.strictEqual((yield* ask(port, host)).text, "asked at 1")
      for (const socket of theApp.sockets) socket.write(answer("unasked"))
      yield* until(() => theApp.sockets.size === 0)
      assert.strictEqual((yield* ask(port, host)).text, "asked at 2")
      assert.strictEqual((yield* ask(port, host)).text, "asked at 2")
    }).pipe(Effect.scoped)
  )

  it.live("that the app has closed is not reused", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const theApp = yield* echo
      const host = hostOf(theApp.port)
      for (let turn = 1; turn <= 3; turn++) {
        assert.strictEqual((yield* ask(port, host)).status, 200)
        assert.strictEqual(theApp.accepted(), turn)
        for (const socket of theApp.sockets) socket.end()
        yield* until(() => theApp.sockets.size === 0)
      }
    }).pipe(Effect.scoped)
  )

  it.live("has its own scope, which closes with the connection or with the previews", () =>
    Effect.gen(function* () {
      let open = 0
      const theApp = yield* echo
      yield* Effect.gen(function* () {
        const port = yield* previewServer({
          idle: Duration.millis(50),
          toApp: (_, to) =>
            Effect.andThen(
              Effect.acquireRelease(
                Effect.sync(() => open++),
                () => Effect.sync(() => open--)
              ),
              Effect.catchTag(loopback(to), "PortClosed", () => new PreviewUnavailable({ state: "starting" }))
            )
        })
        yield* ask(port, hostOf(theApp.port))
        assert.strictEqual(open, 1)
        yield* until(() => open === 0)
        yield* ask(port, hostOf(1 + 1024))
        assert.strictEqual(open, 0)
        yield* ask(port, hostOf(theApp.port))
      }).pipe(Effect.scoped)
      assert.strictEqual(open, 0)
    }).pipe(Effect.scoped)
  )
})
