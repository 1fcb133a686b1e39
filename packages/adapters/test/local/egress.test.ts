import * as Egress from "@castellan/adapters/local/Egress.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { lookup } from "node:dns"
import { once } from "node:events"
import { connect, createServer, type Server, type Socket } from "node:net"
import { vi } from "vitest"

vi.mock("node:dns", async (original) => ({ ...(await original<object>()), lookup: vi.fn() }))

const addressOf = (server: Server) => (server.address() as { readonly port: number }).port

/** Something that listens on this host until the scope is closed, and what it does with each connection. */
const listening = (serve: (socket: Socket) => void) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const server = createServer({ allowHalfOpen: true }, serve)
      await once(server.listen(0, "127.0.0.1"), "listening")
      return server
    }),
    (server) => Effect.sync(() => server.close())
  )

/** Connections that come to the proxy as those of a sandbox do. */
const proxyTo = Effect.fnUntraced(function* (registry: string) {
  const { close, serve } = yield* Effect.acquireRelease(
    Effect.sync(() => Egress.make(new URL(registry))),
    ({ close }) => Effect.sync(close)
  )
  const server = yield* listening((socket) => serve(socket))
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

const connectTo = (authority: string) => `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n\r\n`

describe("The way out of a sandbox", () => {
  it.live("carries bytes both ways until both sides are done", () =>
    Effect.gen(function* () {
      const echo = yield* listening((socket) => {
        socket.on("data", (bytes) => socket.write(bytes)).on("end", () => socket.end("done"))
      })
      const authority = `127.0.0.1:${addressOf(echo)}`
      const { dial } = yield* proxyTo(`https://${authority}/`)
      const socket = yield* dial
      socket.write(`${connectTo(authority)}early `)
      assert.strictEqual(yield* headOf(socket), "HTTP/1.1 200 Connection Established")
      const bytes = "x".repeat(1_000_000)
      socket.end(bytes)
      assert.isTrue((yield* read(socket)).endsWith(`${bytes}done`))
    }).pipe(Effect.scoped)
  )

  it.live("brings all that was sent to who reads it late", () =>
    Effect.gen(function* () {
      const bytes = "x".repeat(5_000_000)
      const generous = yield* listening((socket) => {
        socket.resume().end(bytes)
      })
      const authority = `127.0.0.1:${addressOf(generous)}`
      const { dial } = yield* proxyTo(`https://${authority}/`)
      const socket = yield* dial
      socket.end(connectTo(authority))
      yield* Effect.sleep("200 millis")
      assert.strictEqual((yield* read(socket)).split("\r\n\r\n")[1]?.length, bytes.length)
    }).pipe(Effect.scoped)
  )

  it.live("says so where the registry does not answer", () =>
    Effect.gen(function* () {
      const authority = `127.0.0.1:${addressOf(yield* listening((socket) => socket.resetAndDestroy()))}`
      const { dial } = yield* proxyTo(`http://${authority}/`)
      const socket = yield* dial
      socket.write(`GET http://${authority}/it HTTP/1.1\r\nHost: ${authority}\r\n\r\n`)
      assert.match(yield* read(socket), /^HTTP\/1\.1 502 /)
    }).pipe(Effect.scoped)
  )

  it.live("is broken for nobody else by a head that can't be sent on", () =>
    Effect.gen(function* () {
      const answers = [
        "HTTP/1.1 099 what\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTrailer: X\r\nContent-Length: 0\r\n\r\n",
        "what\r\n\r\n"
      ]
      let asked = 0
      const odd = yield* listening((socket) => {
        socket.on("error", () => undefined)
        socket.once("data", () => socket.end(answers[asked++ % answers.length]!))
      })
      const authority = `127.0.0.1:${addressOf(odd)}`
      const { dial } = yield* proxyTo(`http://${authority}/`)
      const lines = [
        "Trailer: X\r\nContent-Length: 0",
        "Expect: what",
        "TE: trailers\r\nUpgrade: h2c",
        "X: \x01",
        "Host: other"
      ]
      for (const method of ["GET", "POST", "OPTIONS"]) {
        for (const line of lines) {
          const socket = yield* dial
          socket.end(`${method} http://${authority}/%ZZ%00 HTTP/1.1\r\nHost: x\r\n${line}\r\n\r\n`)
          yield* Effect.exit(read(socket))
        }
      }
      assert.isAbove(asked, 5)
      const socket = yield* dial
      socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
      assert.strictEqual(yield* headOf(socket), "HTTP/1.1 403 Forbidden")
    }).pipe(Effect.scoped)
  )

  it.live("does not lead to this host by a name that is said to be here", () =>
    Effect.gen(function* () {
      let reached = 0
      const server = yield* listening((socket) => {
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

  it.live("is closed to who takes too long to say what is wanted", () =>
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

  it.live("has room for so many at once, and again for others when those are done", () =>
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

  it.live("breaks what is under way when it is closed", () =>
    Effect.gen(function* () {
      const silent = yield* listening(() => undefined)
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
})
