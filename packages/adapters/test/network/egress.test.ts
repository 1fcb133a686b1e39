import * as Certificates from "../../src/network/Certificates.ts"
import { NetworkPolicy } from "@castellan/domain/network/NetworkPolicy.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema } from "effect"
import {
  authority,
  egressTo,
  exchange,
  httpServer,
  httpsServer,
  nextPiece,
  portOf,
  readAll,
  tcpServer
} from "./internet.ts"

const policy = Schema.decodeUnknownSync(NetworkPolicy)

const get = (host: string, path: string, more = "") =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n${more}\r\n`

/** A server of HTTP over TLS under some name, which says what it was asked. */
const telling = Effect.gen(function* () {
  const certificates = Certificates.make(yield* authority)
  const { server } = yield* httpsServer((request, response) => {
    response.end(`${request.method} ${request.url} ${request.headers.authorization} ${request.headers.host}`)
  }, certificates)
  return `https://127.0.0.1:${portOf(server)}`
})

const statusOf = (answer: string) => Number(/^HTTP\/1.1 (\d+)/.exec(answer)?.[1])

describe("The egress of a sandbox", () => {
  it.live("forwards any bytes in the public network until both sides have ended", () =>
    Effect.gen(function* () {
      const echo = yield* tcpServer((socket) => {
        socket.on("data", (bytes) => socket.write(bytes)).on("end", () => socket.end("done"))
      })
      const { open } = yield* egressTo({
        policy: "public",
        hosts: { "echo.example.com": `http://127.0.0.1:${portOf(echo)}` }
      })
      const socket = yield* open("echo.example.com", 22)
      const bytes = "x".repeat(2_000_000)
      socket.end(bytes)
      assert.strictEqual(yield* readAll(socket), `${bytes}done`)
    }).pipe(Effect.scoped)
  )

  it.live("never connects to an address that is not public, whatever name resolves to it", () =>
    Effect.gen(function* () {
      let reached = 0
      const near = yield* tcpServer(() => reached++)
      const addresses = ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1", "100.64.0.1"]
      for (const policyOfSandbox of [
        "public" as const,
        policy({ allow: [{ host: "rebind.example.com", ports: [portOf(near)] }] })
      ]) {
        for (const address of addresses) {
          const { open, reasons } = yield* egressTo({
            policy: policyOfSandbox,
            lookup: (_, done) => done(null, [{ address, family: address.includes(":") ? 6 : 4 }])
          })
          const answer = yield* exchange(yield* open("rebind.example.com", portOf(near)), "\x00hello")
          assert.include(["", "(broken)"], answer, address)
          assert.deepStrictEqual(reasons(), ["private_address"], address)
        }
      }
      assert.strictEqual(reached, 0)
    }).pipe(Effect.scoped)
  )

  it.live("passes TLS through to an allowed host if the ClientHello names that host", () =>
    Effect.gen(function* () {
      const url = yield* telling
      const { openTls, reasons } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": url }
      })
      const answer = yield* exchange(yield* openTls("api.example.com", 443), get("api.example.com", "/x"))
      assert.include(answer, "GET /x undefined api.example.com")
      assert.deepStrictEqual(reasons(), [])
    }).pipe(Effect.scoped)
  )

  it.live("refuses TLS whose ClientHello names another host, or none", () =>
    Effect.gen(function* () {
      const url = yield* telling
      const { openTls, reasons } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": url, "evil.example.com": url }
      })
      for (const name of ["evil.example.com", "sub.api.example.com", ""])
        assert.match(yield* Effect.flip(openTls("api.example.com", 443, name)), /UNRECOGNIZED_NAME/, name)
      assert.deepStrictEqual(reasons(), ["name_mismatch", "name_mismatch", "name_mismatch"])
    }).pipe(Effect.scoped)
  )

  it.live("refuses each plain request with another Host than the allowed one, also the second on a connection", () =>
    Effect.gen(function* () {
      const server = yield* httpServer((request, response) => response.end(`for ${request.headers.host}`))
      const url = `http://127.0.0.1:${portOf(server)}`
      const { open, reasons } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": url }
      })
      const good = yield* exchange(yield* open("api.example.com", 80), get("api.example.com", "/"))
      assert.include(good, "for api.example.com")
      const bad = yield* exchange(yield* open("api.example.com", 80), get("evil.example.com", "/"))
      assert.strictEqual(statusOf(bad), 403)
      const second = `GET / HTTP/1.1\r\nHost: api.example.com\r\n\r\n${get("evil.example.com", "/")}`
      const both = yield* exchange(yield* open("api.example.com", 80), second)
      assert.include(both, "for api.example.com")
      assert.include(both, "403 Forbidden")
      assert.deepStrictEqual(reasons(), ["name_mismatch", "name_mismatch"])
    }).pipe(Effect.scoped)
  )

  it.live("refuses requests that two servers could read differently", () =>
    Effect.gen(function* () {
      const asked: Array<string> = []
      const server = yield* httpServer((request, response) => {
        asked.push(request.url!)
        response.end()
      })
      const { open } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com" }] }),
        hosts: { "api.example.com": `http://127.0.0.1:${portOf(server)}` }
      })
      const heads = [
        "GET http://evil.example.com/ HTTP/1.1\r\nHost: api.example.com\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: api.example.com\r\nHost: evil.example.com\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: api.example.com\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "CONNECT evil.example.com:443 HTTP/1.1\r\nHost: api.example.com\r\n\r\n"
      ]
      for (const head of heads) {
        const socket = yield* open("api.example.com", 80)
        socket.end(head)
        assert.notInclude(yield* readAll(socket), "200 OK", head)
      }
      assert.deepStrictEqual(asked, [])
    }).pipe(Effect.scoped)
  )

  it.live("sets the headers of a rule on requests inside TLS, in place of the sandbox's own", () =>
    Effect.gen(function* () {
      const url = yield* telling
      const { openTls, reasons } = yield* egressTo({
        policy: policy({
          allow: [
            {
              host: "model.example.com",
              paths: ["/v1/"],
              methods: ["GET"],
              headers: { authorization: { secret: "KEY", prefix: "Bearer " } }
            }
          ]
        }),
        hosts: { "model.example.com": url },
        secrets: { KEY: "s3cret" }
      })
      const ask = (path: string, more = "") =>
        Effect.flatMap(openTls("model.example.com", 443), (socket) =>
          exchange(socket, get("model.example.com", path, more))
        )
      assert.include(
        yield* ask("/v1/models", "Authorization: mine\r\n"),
        "GET /v1/models Bearer s3cret model.example.com"
      )
      assert.strictEqual(statusOf(yield* ask("/v2/models")), 403)
      assert.strictEqual(statusOf(yield* ask("/v1/../v2/models")), 403)
      const posted = yield* Effect.flatMap(openTls("model.example.com", 443), (socket) =>
        exchange(
          socket,
          "POST /v1/x HTTP/1.1\r\nHost: model.example.com\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
      )
      assert.strictEqual(statusOf(posted), 403)
      assert.deepStrictEqual(reasons(), ["path_not_allowed", "path_not_allowed", "method_not_allowed"])
    }).pipe(Effect.scoped)
  )

  it.live("answers 503 while a secret of a rule has no value, and sends nothing", () =>
    Effect.gen(function* () {
      const url = yield* telling
      const { openTls } = yield* egressTo({
        policy: policy({ allow: [{ host: "model.example.com", headers: { "x-key": { secret: "GONE" } } }] }),
        hosts: { "model.example.com": url }
      })
      const answer = yield* exchange(yield* openTls("model.example.com", 443), get("model.example.com", "/"))
      assert.strictEqual(statusOf(answer), 503)
    }).pipe(Effect.scoped)
  )

  it.live("forwards server-sent events one by one, uploads after 100-continue, and web sockets", () =>
    Effect.gen(function* () {
      const certificates = Certificates.make(yield* authority)
      let more: () => void = () => undefined
      const { http, server } = yield* httpsServer((request, response) => {
        if (request.url === "/events") {
          response.writeHead(200, { "content-type": "text/event-stream" })
          response.write("data: 1\n\n")
          more = () => response.end("data: 2\n\n")
        } else request.pipe(response)
      }, certificates)
      http.on("upgrade", (_request, socket) => {
        socket.write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        socket.pipe(socket)
      })
      const { openTls } = yield* egressTo({
        policy: policy({ allow: [{ host: "api.example.com", headers: { "x-a": "b" } }] }),
        hosts: { "api.example.com": `https://127.0.0.1:${portOf(server)}` }
      })
      const events = yield* openTls("api.example.com", 443)
      events.write(get("api.example.com", "/events"))
      let seen = ""
      while (!seen.includes("data: 1")) seen += yield* nextPiece(events)
      more()
      assert.include(yield* readAll(events), "data: 2")

      const upload = yield* openTls("api.example.com", 443)
      upload.write(
        "PUT / HTTP/1.1\r\nHost: api.example.com\r\nContent-Length: 4\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
      )
      assert.include(yield* nextPiece(upload), "100 Continue")
      assert.include(yield* exchange(upload, "body"), "body")

      const webSocket = yield* openTls("api.example.com", 443)
      webSocket.write("GET /ws HTTP/1.1\r\nHost: api.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
      assert.include(yield* nextPiece(webSocket), "101 Switching Protocols")
      webSocket.write("frame")
      assert.strictEqual(yield* nextPiece(webSocket), "frame")
    }).pipe(Effect.scoped)
  )

  it.live("forwards protocols in which the server speaks first, and refuses HTTP that follows", () =>
    Effect.gen(function* () {
      const server = yield* tcpServer((socket) => {
        socket.write("SSH-2.0-test\r\n")
        socket.on("data", (bytes) => socket.end(`got ${bytes.length}`))
      })
      const { open, reasons } = yield* egressTo({
        policy: policy({ allow: [{ host: "git.example.com", ports: [22] }] }),
        hosts: { "git.example.com": `http://127.0.0.1:${portOf(server)}` }
      })
      const ssh = yield* open("git.example.com", 22)
      assert.strictEqual(yield* nextPiece(ssh), "SSH-2.0-test\r\n")
      assert.strictEqual(yield* exchange(ssh, "SSH-2.0-client\r\n"), "got 16")
      const http = yield* open("git.example.com", 22)
      assert.strictEqual(yield* nextPiece(http), "SSH-2.0-test\r\n")
      assert.notInclude(yield* exchange(http, get("evil.example.com", "/")), "got")
      assert.deepStrictEqual(reasons(), ["name_mismatch"])
    }).pipe(Effect.scoped)
  )

  it.live("closes connections that a new policy does not allow, and keeps the others", () =>
    Effect.gen(function* () {
      const echo = yield* tcpServer((socket) => void socket.pipe(socket))
      const url = `http://127.0.0.1:${portOf(echo)}`
      const rules = (...hosts: ReadonlyArray<string>) =>
        policy({ allow: hosts.map((host) => ({ host, ports: [9000] })) })
      const { change, open } = yield* egressTo({
        policy: rules("one.example.com", "two.example.com"),
        hosts: { "one.example.com": url, "two.example.com": url }
      })
      const [one, two] = [yield* open("one.example.com", 9000), yield* open("two.example.com", 9000)]
      one.write("\x00a")
      two.write("\x00b")
      assert.strictEqual(yield* nextPiece(one), "\x00a")
      assert.strictEqual(yield* nextPiece(two), "\x00b")
      change(rules("two.example.com"))
      assert.strictEqual(yield* readAll(one), "(broken)")
      two.write("still")
      assert.strictEqual(yield* nextPiece(two), "still")
      change("none")
      assert.strictEqual(yield* readAll(two), "(broken)")
    }).pipe(Effect.scoped)
  )

  it.live("reports the reason to a client of a refused web host, as far as its protocol can", () =>
    Effect.gen(function* () {
      const { open, openTls, reasons } = yield* egressTo({ policy: policy({ allow: [{ host: "api.example.com" }] }) })
      const answer = yield* exchange(yield* open("other.example.com", 80), get("other.example.com", "/"))
      assert.include(answer, "403 Forbidden")
      assert.include(answer, "other.example.com:80, host_not_allowed")
      assert.match(yield* Effect.flip(openTls("other.example.com", 443)), /ACCESS_DENIED/)
      assert.deepStrictEqual(reasons(), ["host_not_allowed", "host_not_allowed"])
    }).pipe(Effect.scoped)
  )
})
