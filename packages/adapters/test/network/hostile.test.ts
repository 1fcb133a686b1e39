/** What hostile programs in a sandbox, and hostile servers, try with the gateway. */
import * as Certificates from "../../src/network/Certificates.ts"
import { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { once } from "node:events"
import type { Socket } from "node:net"
import { egressTo, exchange, httpServer, httpsServer, nextPiece, portOf, readAll, tcpServer } from "./internet.ts"

const policy = Schema.decodeUnknownSync(NetworkPolicy)

const urlOf = (server: Parameters<typeof portOf>[0]) => `http://127.0.0.1:${portOf(server)}`

const secureUrlOf = (server: Parameters<typeof portOf>[0]) => `https://127.0.0.1:${portOf(server)}`

/** A server that keeps what it gets, and answers nothing. */
const silent = Effect.gen(function* () {
  const connections: Array<Socket> = []
  let received = ""
  const server = yield* tcpServer((socket) => {
    connections.push(socket)
    socket.on("data", (bytes) => (received += String(bytes)))
  })
  return { url: urlOf(server), connections, received: () => received }
})

const pause = (milliseconds: number) =>
  Effect.promise(() => new Promise((resolve) => setTimeout(resolve, milliseconds)))

/** What comes within a time; the connection need not end. */
const within = (socket: Socket, milliseconds: number) =>
  Effect.gen(function* () {
    let text = ""
    socket.on("data", (bytes) => (text += String(bytes)))
    yield* pause(milliseconds)
    return text
  })

describe("The egress against hostile programs", () => {
  const disguised = [
    "\r\nGET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
    "\n\r\n\nGET / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
    "get / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
    "M-SEARCH / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
    "GET  / HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
    "GET\t/ HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
    "GET /a b HTTP/1.1\r\nHost: evil.example.com\r\n\r\n",
    "GET / HTTP/1.1 \r\nHost: evil.example.com\r\n\r\n",
    "GET / http/1.1\r\nHost: evil.example.com\r\n\r\n",
    "GET /\r\n",
    "GET http://evil.example.com/\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    // A hello of TLS 1.2 in the form of SSL 2, which has no server name.
    Buffer.from([0x80, 0x2e, 1, 3, 3, 0, 0x15, 0, 0, 0, 0x10, ...Buffer.alloc(37)]).toString("latin1")
  ]

  for (const port of [80, 443, 9000])
    it.live(`passes no request that is disguised as another protocol on port ${port}, also after silence`, () =>
      Effect.gen(function* () {
        const target = yield* silent
        const { open } = yield* egressTo({
          policy: policy({ allow: [{ host: "api.example.com", ports: [80, 443, 9000] }] }),
          hosts: { "api.example.com": target.url }
        })
        const clients = []
        for (const head of disguised) clients.push([yield* open("api.example.com", port), head] as const)
        for (const [client, head] of clients) client.write(head, "latin1")
        yield* pause(150)
        for (const head of disguised) {
          const late = yield* open("api.example.com", port)
          clients.push([late, head] as const)
        }
        yield* pause(400)
        for (const [client, head] of clients.slice(disguised.length)) client.write(head, "latin1")
        yield* pause(200)
        assert.strictEqual(target.received(), "")
      }).pipe(Effect.scoped)
    )

  it.live("passes other protocols than HTTP and TLS on web ports only as SSH on 443", () =>
    Effect.gen(function* () {
      const target = yield* silent
      const { open, reasons } = yield* egressTo({
        policy: policy({ allow: [{ host: "git.example.com", ports: [80, 443, 5432] }] }),
        hosts: { "git.example.com": "https://127.0.0.1:1", "ssh.git.example.com": target.url }
      })
      for (const port of [80, 443]) {
        const client = yield* open("git.example.com", port)
        assert.include(["", "(broken)"], yield* exchange(client, "\x00\x00\x00\x08other\r\n"))
      }
      assert.deepStrictEqual(reasons(), ["name_mismatch", "name_mismatch"])
      const ssh = yield* egressTo({
        policy: policy({ allow: [{ host: "git.example.com" }] }),
        lookup: (_, done) => done(null, [{ address: "127.0.0.1", family: 4 }])
      })
      // It is dialled, which the address forbids here.
      yield* exchange(yield* ssh.open("git.example.com", 443), "SSH-2.0-client\r\n")
      assert.deepStrictEqual(ssh.reasons(), ["private_address"])
    }).pipe(Effect.scoped)
  )

  it.live("holds names that the operator maps to their name in the public network as well", () =>
    Effect.gen(function* () {
      const server = yield* httpServer((request, response) => response.end(`for ${request.headers.host}`))
      const { open, openTls, reasons } = yield* egressTo({
        policy: "public",
        hosts: { "mirror.example.com": urlOf(server), "secure.example.com": secureUrlOf(server) }
      })
      const ask = (host: string) =>
        Effect.flatMap(open("mirror.example.com", 80), (socket) =>
          exchange(socket, `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`)
        )
      assert.include(yield* ask("mirror.example.com"), "for mirror.example.com")
      assert.include(yield* ask("admin.internal"), "403 Forbidden")
      yield* Effect.flip(openTls("secure.example.com", 443, "admin.internal"))
      assert.deepStrictEqual(reasons(), ["name_mismatch", "name_mismatch"])
    }).pipe(Effect.scoped)
  )

  it.live("does not change to a protocol in which requests could not be seen", () =>
    Effect.gen(function* () {
      const seen: Array<string> = []
      const server = yield* httpServer((request, response) => {
        seen.push(`${request.url} ${request.headers.upgrade} ${request.headers["http2-settings"]}`)
        response.end("plainly")
      })
      server.on("upgrade", (request: { url: string }, socket: Socket) => {
        seen.push(`upgraded ${request.url}`)
        socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
      })
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com", paths: ["/v1/"] }] }),
        hosts: { "api.example.com": urlOf(server) }
      })
      for (const protocol of ["h2c", "h2c, websocket", "websocket, h2c", "SPDY/3.1", "tcp", "TLS/1.2"]) {
        const client = yield* open("api.example.com", 80)
        client.write(
          `GET /v1/x HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n`
        )
        assert.notInclude(yield* within(client, 100), "101 Switching", protocol)
      }
      assert.deepStrictEqual(seen, Array(6).fill("/v1/x undefined undefined"))
    }).pipe(Effect.scoped)
  )

  it.live("never hides a request in the body of one that changes the protocol", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const server = yield* httpServer((request, response) => {
        asked.push(request.url!)
        response.end("ok")
      })
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com", paths: ["/v1/"], ports: [80] }] }),
        hosts: { "api.example.com": urlOf(server) }
      })
      const hidden = "GET /secret HTTP/1.1\r\nHost: evil.example.com\r\n\r\n"
      for (const length of [20, 80, 100, 120, 140]) {
        const first = yield* open("api.example.com", 80)
        first.write(
          `POST /v1/first HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: ${length}\r\n\r\n`
        )
        yield* within(first, 50)
        const second = yield* open("api.example.com", 80)
        second.write(
          `POST /v1/second HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: ${hidden.length}\r\n\r\n${hidden}`
        )
        yield* within(second, 50)
      }
      assert.notInclude(asked, "/secret")
      assert.strictEqual(asked.filter((path) => path === "/v1/second").length, 5)
    }).pipe(Effect.scoped)
  )

  it.live("gives the body of an answer that declines to change the protocol", () =>
    Effect.gen(function* () {
      const server = yield* httpServer((_, response) => {
        response.write("declined ")
        response.end("plainly")
      })
      server.on("upgrade", (_: unknown, socket: Socket) =>
        socket.end("HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nno!\r\n0\r\n\r\n")
      )
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": urlOf(server) }
      })
      const answer = yield* exchange(
        yield* open("api.example.com", 80),
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
      )
      assert.match(answer, /^HTTP\/1.1 400 [^]*no!$/)
      assert.notMatch(answer, /transfer-encoding|keep-alive/i)
    }).pipe(Effect.scoped)
  )

  it.live("forwards the requests of one connection one after another, and only so many in advance", () =>
    Effect.gen(function* () {
      const target = yield* silent
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": target.url }
      })
      const request = "GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
      const few = yield* open("api.example.com", 80)
      few.write(request.repeat(10))
      yield* pause(100)
      assert.strictEqual(target.connections.length, 1)
      target.connections[0]!.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none")
      assert.include(yield* nextPiece(few), "200 OK")
      yield* pause(50)
      assert.strictEqual(
        target.received(),
        target
          .received()
          .slice(0, target.received().length / 2)
          .repeat(2)
      )

      const flood = yield* open("api.example.com", 80)
      flood.write(request.repeat(5000))
      const ended = yield* Effect.timeoutOption(readAll(flood), 2000)
      assert.strictEqual(ended._tag, "Some")
      assert.isAtMost(target.connections.length, 2)
    }).pipe(Effect.scoped)
  )

  it.live("keeps few idle connections to hosts, however many hosts there are", () =>
    Effect.gen(function* () {
      let connections = 0
      const server = yield* httpServer((_, response) => response.end("ok"))
      server.on("connection", (socket: Socket) => {
        connections++
        socket.on("close", () => connections--)
      })
      const names = Array.from({ length: 150 }, (_, n) => `h${n}.example.com`)
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "*.example.com" }] }),
        hosts: Object.fromEntries(names.map((name) => [name, urlOf(server)]))
      })
      for (const name of names) {
        const client = yield* open(name, 80)
        client.write(`GET / HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`)
        yield* readAll(client)
      }
      yield* pause(50)
      assert.isAtMost(connections, 64)
    }).pipe(Effect.scoped)
  )

  it.live("sends a secret only inside TLS, whatever the sandbox speaks", () =>
    Effect.gen(function* () {
      const target = yield* silent
      const rule = { host: "model.example.com", headers: { authorization: { secret: "KEY" } } }
      for (const [ports, port, reason] of [
        [undefined, 80, "port_not_allowed"],
        [undefined, 443, "tls_required"],
        [[8443], 8443, "tls_required"]
      ] as const) {
        const { open, reasons } = yield* egressTo({
          policy: policy({ allow: [{ ...rule, ...(ports === undefined ? {} : { ports }) }] }),
          hosts: { "model.example.com": target.url.replace("http:", "https:") },
          secrets: { KEY: "s3cret" }
        })
        const answer = yield* exchange(
          yield* open("model.example.com", port),
          `GET / HTTP/1.1\r\nHost: model.example.com:${port}\r\nConnection: close\r\n\r\n`
        )
        if (port !== 80) assert.include(answer, "tls_required")
        assert.deepStrictEqual(reasons(), [reason])
      }
      assert.strictEqual(target.received(), "")
    }).pipe(Effect.scoped)
  )

  it.live("drops headers by which servers take another method, another path or a header of a rule", () =>
    Effect.gen(function* () {
      const server = yield* httpServer((request, response) => response.end(JSON.stringify(request.headers)))
      const { open } = yield* egressTo({
        policy: policy({
          allow: [{ host: "api.example.com", ports: [80], methods: ["GET"], headers: { "x-api-key": "injected" } }]
        }),
        hosts: { "api.example.com": urlOf(server) }
      })
      const answer = yield* exchange(
        yield* open("api.example.com", 80),
        [
          "GET / HTTP/1.1",
          "Host: api.example.com",
          "Connection: close, X-Api-Key",
          "X-API-KEY: mine",
          "x_api_key: mine",
          "X_Api-Key: mine",
          "X-HTTP-Method-Override: DELETE",
          "x_http_method: DELETE",
          "X-Method-Override: DELETE",
          "X-Original-URL: /other",
          "X-Rewrite-URL: /other",
          "Trailer: x-api-key",
          "X-Harmless: kept",
          "",
          ""
        ].join("\r\n")
      )
      const headers = JSON.parse(/\{.*\}/.exec(answer)![0]) as Record<string, string>
      delete headers["connection"]
      assert.deepStrictEqual(headers, { host: "api.example.com", "x-harmless": "kept", "x-api-key": "injected" })
    }).pipe(Effect.scoped)
  )

  it.live("ends a request, and a web socket, whose path a new policy does not allow", () =>
    Effect.gen(function* () {
      const server = yield* httpServer((_, response) => void response.write("begun"))
      server.on("upgrade", (_: unknown, socket: Socket) => {
        socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
        socket.pipe(socket)
      })
      const rules = (...paths: ReadonlyArray<string>) => policy({ allow: [{ host: "api.example.com", paths }] })
      const { change, open } = yield* egressTo({
        policy: rules("/v1/", "/v2/"),
        hosts: { "api.example.com": urlOf(server) }
      })
      const ask = (path: string, more = "") =>
        Effect.gen(function* () {
          const client = yield* open("api.example.com", 80)
          client.write(`GET ${path} HTTP/1.1\r\nHost: api.example.com\r\n${more}\r\n`)
          assert.include(yield* nextPiece(client), "HTTP/1.1")
          return client
        })
      const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
      const clients = [yield* ask("/v1/x"), yield* ask("/v1/x", upgrade)]
      const kept = [yield* ask("/v2/x"), yield* ask("/v2/x", upgrade)]
      change(rules("/v2/"))
      yield* pause(100)
      assert.deepStrictEqual(
        clients.map((client) => client.readyState === "open"),
        [false, false]
      )
      assert.deepStrictEqual(
        kept.map((client) => client.readyState === "open"),
        [true, true]
      )
    }).pipe(Effect.scoped)
  )

  it.live("ends a connection whose request's head comes too slowly", () =>
    Effect.gen(function* () {
      const target = yield* silent
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": target.url },
        headWithin: 500
      })
      const client = yield* open("api.example.com", 80)
      client.write("GET / HTTP/1.1\r\nHost: api.example.com\r\n")
      const drip = setInterval(() => client.write("x: y\r\n"), 100)
      const ended = yield* Effect.timeoutOption(readAll(client), 4000)
      clearInterval(drip)
      assert.strictEqual(ended._tag, "Some")
    }).pipe(Effect.scoped)
  )
})

describe("The egress against hostile servers", () => {
  it.live("survives any answer, and passes none that is no HTTP", () =>
    Effect.gen(function* () {
      const answers = [
        "HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 \x01\x02\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: \x01\x7f\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nzz",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nzz",
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(5000),
        `HTTP/1.1 200 OK\r\n${"x: y\r\n".repeat(20_000)}\r\n`,
        `HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok${"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno".repeat(10)}`,
        "\x16\x03\x01\x00\x05hello",
        ""
      ]
      let next = ""
      const server = yield* tcpServer((socket) => socket.once("data", () => socket.end(next, "latin1")))
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": urlOf(server) }
      })
      for (const answer of answers) {
        for (const more of ["", "Connection: Upgrade\r\nUpgrade: websocket\r\n", "Expect: 100-continue\r\n"]) {
          next = answer
          const client = yield* open("api.example.com", 80)
          client.end(`GET / HTTP/1.1\r\nHost: api.example.com\r\n${more}\r\n`)
          const ended = yield* Effect.timeoutOption(readAll(client), 3000)
          assert.strictEqual(ended._tag, "Some", JSON.stringify([answer.slice(0, 60), more]))
        }
      }
      next = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
      const client = yield* open("api.example.com", 80)
      client.write("GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n")
      assert.include(yield* readAll(client), "fine")
    }).pipe(Effect.scoped)
  )

  it.live("ends a client's TLS soon if the server ends before it has answered", () =>
    Effect.gen(function* () {
      const server = yield* tcpServer((socket) => socket.once("data", () => socket.end()))
      const { openTls } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": secureUrlOf(server) }
      })
      const failed = yield* Effect.timeoutOption(Effect.flip(openTls("api.example.com", 443)), 2000)
      assert.strictEqual(failed._tag, "Some")
    }).pipe(Effect.scoped)
  )

  it.live("does not speak TLS with a host whose certificate it does not trust", () =>
    Effect.gen(function* () {
      const asked: Array<unknown> = []
      const stranger = Certificates.make(yield* Effect.promise(Certificates.newAuthority))
      const { server } = yield* httpsServer((request) => void asked.push(request.headers), stranger)
      const { openTls } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com", headers: { "x-key": { secret: "KEY" } } }] }),
        hosts: { "api.example.com": secureUrlOf(server) },
        secrets: { KEY: "s3cret" }
      })
      const answer = yield* exchange(
        yield* openTls("api.example.com", 443),
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n"
      )
      assert.include(answer, "502 Bad Gateway")
      assert.notInclude(answer, "s3cret")
      assert.deepStrictEqual(asked, [])
    }).pipe(Effect.scoped)
  )

  it.live("reads from a server no faster than the client does", () =>
    Effect.gen(function* () {
      let sent = 0
      const block = Buffer.alloc(64 * 1024)
      const endless = (socket: Socket) => {
        const more = () => {
          while (!socket.destroyed && socket.write(block)) sent += block.length
        }
        socket.on("drain", more)
        more()
      }
      const server = yield* tcpServer((socket) =>
        socket.once("data", () => {
          socket.write("HTTP/1.1 200 OK\r\n\r\n")
          endless(socket)
        })
      )
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": urlOf(server) }
      })
      const client = yield* open("api.example.com", 80)
      client.pause()
      client.write("GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n")
      yield* pause(700)
      const before = sent
      yield* pause(300)
      assert.strictEqual(sent, before)
      client.destroy()
      yield* Effect.promise(() => once(client, "close"))
    }).pipe(Effect.scoped)
  )
})
