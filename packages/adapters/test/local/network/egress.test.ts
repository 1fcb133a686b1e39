import * as Egress from "../../../src/local/network/Egress.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { lookup } from "node:dns"
import { Duplex } from "node:stream"
import * as tls from "node:tls"
import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"
import { vi } from "vitest"

vi.mock("node:dns", async (original) => ({ ...(await original<object>()), lookup: vi.fn() }))

const addressOf = (server: Server) => (server.address() as { readonly port: number }).port

/** A server on this host that runs `serve` for each connection, until the scope closes. */
const listen = (serve: (socket: Socket) => void) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createServer({ allowHalfOpen: true }, serve)
      await once(server.listen(0, "127.0.0.1"), "listening")
      return server
    }),
    (server) => Effect.sync(() => server.close())
  )

/** An egress proxy for a registry. `dial` connects to it as a sandbox does. */
const proxyTo = Effect.fnUntraced(function* (registry: string) {
  const { close, serve } = yield* Effect.acquireRelease(
    Effect.sync(() => Egress.make(new URL(registry))),
    ({ close }) => Effect.sync(close)
  )
  const server = yield* listen((socket) => serve(socket))
  const dial = Effect.acquireRelease(
    Effect.promise(async () => {
      const socket = connect({ port: addressOf(server), host: "127.0.0.1", allowHalfOpen: true })
      await once(socket, "connect")
      return socket.on("error", () => undefined)
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )
  return { close, dial }
})

const read = (socket: Socket) =>
  Effect.promise(async () => {
    let text = ""
    for await (const piece of socket.iterator({ destroyOnReturn: false })) text += String(piece)
    return text
  })

const headOf = (socket: Socket) => Effect.promise(async () => String((await once(socket, "data"))[0]).split("\r\n")[0])

/** The ClientHello of Node's TLS client, with that server name or without one. */
const helloTo = (servername?: string) =>
  Effect.promise(
    () =>
      new Promise<Buffer>((resolve) => {
        const wire = new Duplex({ read: () => undefined, write: (bytes: Buffer) => resolve(bytes) })
        tls.connect({ socket: wire, ...(servername === undefined ? {} : { servername }) }).on("error", () => undefined)
      })
  )

const connectTo = (authority: string) => `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`

describe("The egress proxy of a sandbox", () => {
  it.live("carries bytes both ways until both sides have ended", () =>
    Effect.gen(function* () {
      const echo = yield* listen((socket) => {
        socket.on("data", (bytes) => socket.write(bytes)).on("end", () => socket.end("done"))
      })
      const authority = `127.0.0.1:${addressOf(echo)}`
      const { dial } = yield* proxyTo(`https://${authority}/`)
      const socket = yield* dial
      socket.write(Buffer.concat([Buffer.from(connectTo(authority)), yield* helloTo()]))
      assert.strictEqual(yield* headOf(socket), "HTTP/1.1 200 Connection Established")
      const bytes = "x".repeat(1_000_000)
      socket.end(bytes)
      assert.isTrue((yield* read(socket)).endsWith(`${bytes}done`))
    }).pipe(Effect.scoped)
  )

  it.live("delivers everything to a client that reads late", () =>
    Effect.gen(function* () {
      const bytes = "x".repeat(5_000_000)
      const registry = yield* listen((socket) => {
        socket.resume().end(bytes)
      })
      const authority = `127.0.0.1:${addressOf(registry)}`
      const { dial } = yield* proxyTo(`https://${authority}/`)
      const socket = yield* dial
      socket.end(Buffer.concat([Buffer.from(connectTo(authority)), yield* helloTo()]))
      yield* Effect.sleep("200 millis")
      assert.strictEqual((yield* read(socket)).split("\r\n\r\n")[1]?.length, bytes.length)
    }).pipe(Effect.scoped)
  )

  it.live("answers 502 if the registry does not answer", () =>
    Effect.gen(function* () {
      const authority = `127.0.0.1:${addressOf(yield* listen((socket) => socket.resetAndDestroy()))}`
      const { dial } = yield* proxyTo(`http://${authority}/`)
      const socket = yield* dial
      socket.write(`GET http://${authority}/it HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)
      assert.match(yield* read(socket), /^HTTP\/1\.1 502 /)
    }).pipe(Effect.scoped)
  )

  it.live("survives a request or response head that can't be forwarded", () =>
    Effect.gen(function* () {
      const answers = [
        "HTTP/1.1 099 what\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTrailer: X\r\nContent-Length: 0\r\n\r\n",
        "what\r\n\r\n"
      ]
      let asked = 0
      const odd = yield* listen((socket) => {
        socket.on("error", () => undefined)
        socket.once("data", () => socket.end(answers[asked++ % answers.length]!))
      })
      const authority = `127.0.0.1:${addressOf(odd)}`
      const { dial } = yield* proxyTo(`http://${authority}/`)
      const lines = ["Trailer: X\r\nContent-Length: 0", "Expect: what", "TE: trailers\r\nUpgrade: h2c", "X: \x01"]
      for (const method of ["GET", "POST", "OPTIONS"]) {
        for (const line of lines) {
          const socket = yield* dial
          socket.end(`${method} http://${authority}/%ZZ%00 HTTP/1.1\r\nHost: ${authority}\r\n${line}\r\n\r\n`)
          yield* Effect.exit(read(socket))
        }
      }
      assert.isAbove(asked, 5)
      const socket = yield* dial
      socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.strictEqual(yield* headOf(socket), "HTTP/1.1 403 Forbidden")
    }).pipe(Effect.scoped)
  )

  it.live("does not connect to this host if the registry's name resolves to it", () =>
    Effect.gen(function* () {
      let reached = 0
      const server = yield* listen((socket) => {
        reached++
        socket.end()
      })
      const answers = ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "fe80::1"]
      for (const address of answers) {
        const family = address.includes(":") ? 6 : 4
        vi.mocked(lookup).mockImplementation(((_: string, __: object, done: (...given: Array<unknown>) => void) =>
          done(null, [{ address, family }])) as unknown as typeof lookup)
        const authority = `registry.test:${addressOf(server)}`
        const { dial } = yield* proxyTo(`https://${authority}/`)
        const socket = yield* dial
        socket.write(connectTo(authority))
        assert.match(yield* read(socket), /^HTTP\/1\.1 502 /, address)
      }
      assert.strictEqual(reached, 0)
    }).pipe(Effect.scoped)
  )

  it.live("closes a connection whose request head takes too long", () =>
    Effect.gen(function* () {
      const { dial } = yield* proxyTo("https://registry.test/")
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.useRealTimers()))
      const slow = yield* dial
      slow.write("CONNECT registry.te")
      while (vi.getTimerCount() === 0) yield* Effect.promise(() => new Promise((resolve) => setImmediate(resolve)))
      const text = Effect.runPromise(read(slow).pipe(Effect.catchCause(() => Effect.succeed(""))))
      vi.advanceTimersByTime(10_000)
      assert.strictEqual(yield* Effect.promise(() => text), "")
    }).pipe(Effect.scoped)
  )

  it.live("limits the number of connections, and accepts new ones after others end", () =>
    Effect.gen(function* () {
      const { dial } = yield* proxyTo("https://registry.test/")
      const all = yield* Effect.all(Array.from({ length: 64 }, () => dial))
      const late = yield* dial
      assert.strictEqual(yield* Effect.timeout(read(late), "5 seconds"), "")
      for (const socket of all) socket.destroy()
      yield* Effect.sleep("100 millis")
      const later = yield* dial
      later.write(connectTo("other.test:443"))
      assert.strictEqual(yield* headOf(later), "HTTP/1.1 403 Forbidden")
    }).pipe(Effect.scoped)
  )

  it.live("breaks open connections when it is closed", () =>
    Effect.gen(function* () {
      const silent = yield* listen(() => undefined)
      const authority = `127.0.0.1:${addressOf(silent)}`
      const { close, dial } = yield* proxyTo(`https://${authority}/`)
      const socket = yield* dial
      socket.write(connectTo(authority))
      yield* headOf(socket)
      const closed = Effect.promise(() => once(socket, "end"))
      close()
      yield* closed
    }).pipe(Effect.scoped)
  )

  it.live("connects a TLS client that names the registry, and refuses one that names another server", () =>
    Effect.gen(function* () {
      let visits = 0
      const shared = { ciphers: "PSK", maxVersion: "TLSv1.2" } as const
      const registry = yield* Effect.acquireRelease(
        Effect.promise(async () => {
          const server = tls.createServer({ ...shared, pskCallback: () => Buffer.alloc(16, 1) }, (socket) => {
            visits++
            socket.end("fine")
          })
          await once(server.on("tlsClientError", () => undefined).listen(0), "listening")
          return server
        }),
        (server) => Effect.sync(() => server.close())
      )
      const authority = `localhost:${addressOf(registry)}`
      const { dial } = yield* proxyTo(`https://${authority}/`)
      const visit = Effect.fnUntraced(function* (servername?: string) {
        const socket = yield* dial
        socket.write(connectTo(authority))
        assert.strictEqual(yield* headOf(socket), "HTTP/1.1 200 Connection Established")
        const client = tls.connect({
          ...shared,
          socket,
          ...(servername === undefined ? {} : { servername }),
          pskCallback: () => ({ psk: Buffer.alloc(16, 1), identity: "it" }),
          checkServerIdentity: () => undefined
        })
        return yield* Effect.promise(async () => {
          try {
            let text = ""
            for await (const piece of client) text += String(piece)
            return text
          } catch (cause) {
            return String(cause)
          }
        })
      })
      assert.strictEqual(yield* visit("localhost"), "fine")
      assert.strictEqual(yield* visit("LOCALHOST"), "fine")
      for (const other of ["other.test", "localhost.other.test", "xlocalhost", undefined]) {
        assert.match(yield* visit(other), /unrecognized name/i, other)
      }
      assert.strictEqual(visits, 2)
    }).pipe(Effect.scoped)
  )

  it.live("refuses a tunnel with anything but TLS, and forwards none of it", () =>
    Effect.gen(function* () {
      let received = 0
      const registry = yield* listen((socket) => {
        socket.on("data", (bytes) => (received += bytes.length)).on("error", () => undefined)
      })
      const authority = `localhost:${addressOf(registry)}`
      const { dial } = yield* proxyTo(`https://${authority}/`)
      const hello = yield* helloTo("localhost")
      for (const bytes of [
        Buffer.from("GET / HTTP/1.1\r\nHost: other.test\r\n\r\n"),
        Buffer.from("SSH-2.0-it\r\n"),
        Buffer.from([0x80, 46, 1, 3, 1]),
        Buffer.concat([Buffer.from([22, 3, 1, 0x40, 0x01])]),
        Buffer.concat([hello.subarray(0, 5), Buffer.from([2]), hello.subarray(6)])
      ]) {
        const socket = yield* dial
        socket.write(connectTo(authority))
        yield* headOf(socket)
        socket.write(bytes)
        assert.strictEqual(Buffer.from(yield* read(socket), "latin1")[0], 21)
      }
      assert.strictEqual(received, 0)
    }).pipe(Effect.scoped)
  )

  it.live("closes a tunnel whose ClientHello takes too long", () =>
    Effect.gen(function* () {
      const authority = `localhost:${addressOf(yield* listen((socket) => socket.on("error", () => undefined)))}`
      const { dial } = yield* proxyTo(`https://${authority}/`)
      vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] })
      yield* Effect.addFinalizer(() => Effect.sync(() => vi.useRealTimers()))
      const slow = yield* dial
      slow.write(connectTo(authority))
      yield* headOf(slow)
      slow.write((yield* helloTo("localhost")).subarray(0, -1))
      const text = Effect.runPromise(read(slow).pipe(Effect.catchCause(() => Effect.succeed(""))))
      vi.advanceTimersByTime(10_000)
      assert.strictEqual(yield* Effect.promise(() => text), "")
    }).pipe(Effect.scoped)
  )

  it.live("checks the second ClientHello, even if it arrives before the HelloRetryRequest", () =>
    Effect.gen(function* () {
      const retry = Buffer.concat([
        Buffer.from([22, 3, 3, 0, 44, 2, 0, 0, 40, 3, 3]),
        Buffer.from("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c", "hex"),
        Buffer.from([0, 0x13, 1, 0, 0, 0])
      ])
      const [hello, other] = [yield* helloTo("localhost"), yield* helloTo("other.test")]
      const changeCipherSpec = Buffer.from([20, 3, 3, 0, 1, 1])
      for (const [second, isEarly, passes] of [
        [hello, false, true],
        [Buffer.concat([changeCipherSpec, hello]), false, true],
        [hello, true, true],
        [other, false, false],
        [other, true, false],
        [Buffer.concat([changeCipherSpec, other]), true, false],
        [Buffer.concat([changeCipherSpec, changeCipherSpec, other]), false, false],
        [Buffer.from([23, 3, 3, 0, 1, 1]), false, false]
      ] as const) {
        let received = Buffer.alloc(0)
        const registry = yield* listen((socket) => {
          socket
            .on("error", () => undefined)
            .on("data", (bytes) => {
              received = Buffer.concat([received, bytes])
              if (received.length === hello.length) socket.write(retry)
              if (received.length === hello.length + second.length) socket.end("passed")
            })
        })
        const authority = `localhost:${addressOf(registry)}`
        const { dial } = yield* proxyTo(`https://${authority}/`)
        const socket = yield* dial
        socket.write(connectTo(authority))
        yield* headOf(socket)
        socket.write(isEarly ? Buffer.concat([hello, second]) : hello)
        if (!isEarly) {
          yield* Effect.promise(() => once(socket, "data"))
          socket.write(second)
        }
        const text = yield* read(socket)
        assert.deepStrictEqual(
          [text.endsWith("passed"), received.length],
          [passes, hello.length + (passes ? second.length : 0)]
        )
      }
    }).pipe(Effect.scoped)
  )

  it.live("sends the registry's host with each plain request, and refuses requests that name another host", () =>
    Effect.gen(function* () {
      const heads: Array<string> = []
      const registry = yield* listen((socket) => {
        socket
          .on("error", () => undefined)
          .on("data", (bytes) => {
            heads.push(String(bytes))
            socket.end("HTTP/1.1 204 No Content\r\n\r\n")
          })
      })
      const authority = `127.0.0.1:${addressOf(registry)}`
      const { dial } = yield* proxyTo(`http://${authority}/`)
      const ask = Effect.fnUntraced(function* (head: ReadonlyArray<string>, body = "") {
        const socket = yield* dial
        socket.write(`${head.join("\r\n")}\r\n\r\n${body}`)
        return (yield* read(socket)).slice(9, 12)
      })
      const line = `GET http://${authority}/it HTTP/1.1`
      const host = `Host: ${authority}`
      const spoofed = ["X-Forwarded-Host: other.test", "Forwarded: host=other.test", "X-Original-URL: /other"]
      assert.strictEqual(yield* ask([line, host, ...spoofed, "Connection: host, x-secret", "X-Secret: 1"]), "204")
      assert.match(heads[0]!, new RegExp(`^GET /it HTTP/1.1\r\n(.*\r\n)*host: ${authority}\r\n`, "i"))
      assert.notMatch(heads[0]!, /other|x-secret/i)

      const post = `POST http://${authority}/it HTTP/1.1`
      const smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: other.test\r\n\r\n"
      for (const head of [
        [line, "Host: other.test"],
        [line, host, "Host: other.test"],
        [line, "Host: "],
        [post, host, "Transfer-Encoding: chunked", "Content-Length: 3"],
        [post, host, "Content-Length: 3", "Content-Length: 4"],
        [post, host, "Transfer-Encoding: gzip, chunked"],
        [post, host, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        [post, host, "Transfer-Encoding: xchunked"],
        [post, host, "Transfer-Encoding : chunked"]
      ]) {
        assert.strictEqual(yield* ask(head, smuggled), "400", head.join(", "))
      }
      for (const head of [
        [`GET http://other.test/it HTTP/1.1`, host],
        [`GET http://other@${authority}/it HTTP/1.1`, host],
        [`GET https://${authority}/it HTTP/1.1`, host],
        [`GET /it HTTP/1.1`, host],
        [`CONNECT ${authority} HTTP/1.1`, host]
      ]) {
        assert.strictEqual(yield* ask(head), "403", head.join(", "))
      }
      assert.strictEqual(heads.length, 1)
    }).pipe(Effect.scoped)
  )
})
