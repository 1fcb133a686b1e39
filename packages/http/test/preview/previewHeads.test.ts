import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import type { IncomingHttpHeaders } from "node:http"
import { app, ask, hostOf, previewServer, rawApp } from "./PreviewFixture.ts"

const telling = app((request, response) => response.end(JSON.stringify(request.headers)))

describe("Request headers", () => {
  it.live("have the app's own host, and the preview's host and the client's address in x-forwarded headers", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const { port: to } = yield* telling
      const host = `${hostOf(to)}:${port}`
      const seen = JSON.parse((yield* ask(port, host)).text) as IncomingHttpHeaders
      assert.strictEqual(seen.host, `127.0.0.1:${to}`)
      assert.strictEqual(seen["x-forwarded-host"], host)
      assert.strictEqual(seen["x-forwarded-proto"], "http")
      assert.strictEqual(seen["x-forwarded-for"], "127.0.0.1")
      const headers = {
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-host": "spoofed.test",
        "x-forwarded-proto": "gopher",
        forwarded: "for=192.0.2.8"
      }
      const spoofed = JSON.parse((yield* ask(port, host, { headers })).text) as IncomingHttpHeaders
      assert.strictEqual(spoofed["x-forwarded-for"], "192.0.2.7, 127.0.0.1")
      assert.strictEqual(spoofed["x-forwarded-host"], host)
      assert.strictEqual(spoofed["x-forwarded-proto"], "http")
      assert.isUndefined(spoofed["forwarded"])
    }).pipe(Effect.scoped)
  )

  it.live("have the scheme of the configured base URL", () =>
    Effect.gen(function* () {
      const port = yield* previewServer({ base: new URL("https://preview.example.com") })
      const { port: to } = yield* telling
      const host = `${to}-app-one.preview.example.com`
      const seen = JSON.parse((yield* ask(port, host)).text) as IncomingHttpHeaders
      assert.strictEqual(seen["x-forwarded-proto"], "https")
      assert.strictEqual((yield* ask(port, hostOf(to))).text, "the API: /")
    }).pipe(Effect.scoped)
  )

  it.live("include neither credentials for the API nor hop-by-hop headers", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const { port: to } = yield* telling
      const headers = {
        cookie: "session=secret",
        authorization: "Bearer secret",
        "x-api-key": "secret",
        "idempotency-key": "secret",
        "proxy-authorization": "Basic secret",
        "x-request-id": "secret",
        "keep-alive": "timeout=99",
        te: "trailers",
        "proxy-connection": "keep-alive",
        connection: "keep-alive, x-mine",
        "x-mine": "secret",
        "x-other": "stays",
        accept: "text/html",
        "accept-encoding": "br",
        range: "bytes=0-1",
        origin: "http://elsewhere.test"
      }
      const { text } = yield* ask(port, hostOf(to), { headers })
      assert.notInclude(text, "secret")
      const { "x-forwarded-for": _, "x-forwarded-host": __, "x-forwarded-proto": ___, ...seen } = JSON.parse(text)
      assert.deepStrictEqual(seen, {
        host: `127.0.0.1:${to}`,
        connection: "keep-alive",
        "x-other": "stays",
        accept: "text/html",
        "accept-encoding": "br",
        range: "bytes=0-1",
        origin: "http://elsewhere.test"
      })
    }).pipe(Effect.scoped)
  )
})

describe("Response headers", () => {
  it.live("include neither headers that affect other hosts nor hop-by-hop headers", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const { port: to } = yield* app((_, response) => {
        response.setHeader("set-cookie", ["a=1; Domain=localhost", "b=2"])
        response.setHeader("strict-transport-security", "max-age=1; includeSubDomains")
        response.setHeader("clear-site-data", '"*"')
        response.setHeader("alt-svc", 'h3=":443"')
        response.setHeader("www-authenticate", 'Basic realm="yours"')
        response.setHeader("proxy-authenticate", "Basic")
        response.setHeader("connection", "keep-alive, x-mine")
        response.setHeader("x-mine", "1")
        response.setHeader("x-own", ["1", "2"])
        response.setHeader("cache-control", "max-age=60")
        response.setHeader("service-worker-allowed", "/")
        response.end("x")
      })
      const { headers } = yield* ask(port, hostOf(to))
      const { date: _, "keep-alive": __, connection: ___, ...rest } = headers
      assert.deepStrictEqual(rest, {
        "x-robots-tag": "noindex",
        "referrer-policy": "no-referrer",
        "x-own": "1, 2",
        "cache-control": "max-age=60",
        "service-worker-allowed": "/",
        "content-length": "1"
      })
    }).pipe(Effect.scoped)
  )

  it.live("keep the app's own x-robots-tag, referrer-policy and status", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const { port: to } = yield* app((_, response) => {
        response.writeHead(418, "Short and stout", { "x-robots-tag": "all", "referrer-policy": "origin" }).end()
      })
      const { headers, status } = yield* ask(port, hostOf(to))
      assert.deepStrictEqual([status, headers["x-robots-tag"], headers["referrer-policy"]], [418, "all", "origin"])
    }).pipe(Effect.scoped)
  )

  it.live("that can't be parsed are answered with 502, and the server continues", () =>
    Effect.gen(function* () {
      const port = yield* previewServer()
      const wrong = [
        "HTTP/1.1 200 OK\r\nbad header: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-a: \u0001\u0000\r\n\r\n",
        "HTTP/1.1 200 O\u0007K\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 12345 High\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        `HTTP/1.1 200 OK\r\nx-a: ${"x".repeat(100_000)}\r\n\r\n`,
        `HTTP/1.1 200 OK\r\n${"x-a: y\r\n".repeat(20_000)}\r\n`,
        "SSH-2.0-OpenSSH_9.6\r\n",
        "\r\n\r\n\r\n",
        ""
      ]
      const theApp = yield* rawApp((socket) =>
        socket.once("data", (head) => socket.end(wrong[Number(/\/(\d+)/.exec(head.toString())![1])]!))
      )
      for (const [at, said] of wrong.entries()) {
        const { headers, status, text } = yield* ask(port, hostOf(theApp.port), { path: `/${at}` })
        assert.deepStrictEqual([status, text], [502, "This app sent an invalid response.\n"], said.slice(0, 60))
        assert.strictEqual(headers["cache-control"], "no-store")
      }
    }).pipe(Effect.scoped)
  )
})
