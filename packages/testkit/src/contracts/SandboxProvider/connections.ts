import { Port, type PortConnection } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Duration, Effect, Option, Schedule, Scope, Stream } from "effect"
import { createServer } from "node:net"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { utf8, created, commandSpec, tagOf, somePort } from "./fixtures.ts"

/** A sandbox that declares a port. */
const withPort = <A, E>(use: (name: SandboxName, port: Port) => Effect.Effect<A, E, SandboxProvider | Scope.Scope>) =>
  Effect.suspend(() => {
    const port = somePort()
    return created((name) => Effect.scoped(use(name, port)), { ports: [port] })
  })

/** Starts a program that listens in the sandbox, and connects to it once it does. */
const reached = Effect.fnUntraced(function* (compile: Compile, name: SandboxName, port: Port, text: string) {
  const provider = yield* SandboxProvider
  yield* provider.start(name, commandSpec(compile(Step.Listen({ port, text }))))
  return yield* Effect.retry(provider.connect(name, port), {
    while: ({ _tag }) => _tag === "PortClosed",
    schedule: Schedule.spaced("20 millis")
  })
})

/** All that comes from a sandbox over a connection. */
const received = (connection: PortConnection) =>
  Effect.map(Stream.runCollect(connection.incoming), (pieces) => Buffer.concat(pieces))

/** What the program at the other end answers to nothing. */
const answerOf = (connection: PortConnection) =>
  Effect.map(Effect.andThen(connection.end, received(connection)), (bytes) => bytes.toString())

/** A program of the host that listens there for as long as the scope is open. */
const listensOnHost = (port: Port) =>
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const server = createServer((socket) => socket.end("of the host"))
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

export const connections = (compile: Compile): Clauses<SandboxProvider> => ({
  "what listens on a declared port is reached from outside: bytes go both ways, and either side may end first": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const connection = yield* reached(compile, name, port, "heard: ")
        const bytes = Buffer.from(Uint8Array.from({ length: 1_000_000 }, (_, index) => (index * 7919) % 251))
        yield* connection.send(bytes.subarray(0, 1000))
        yield* connection.send(bytes.subarray(1000))
        yield* connection.end
        assert.isTrue((yield* received(connection)).equals(Buffer.concat([utf8("heard: "), bytes])))
        assert.include(connection.host, ":")
      })
    ),

  "what is sent arrives before the sender is done": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const connection = yield* reached(compile, name, port, "heard: ")
        yield* connection.send(utf8("GET / HTTP/1.1\r\n"))
        yield* connection.send(utf8("\r\n"))
        assert.strictEqual((yield* received(connection)).toString(), "heard: GET / HTTP/1.1\r\n\r\n")
      })
    ),

  "a port that was not declared, or that nobody listens on, is closed": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const provider = yield* SandboxProvider
        assert.strictEqual(yield* tagOf(provider.connect(name, port)), "PortClosed")
        const other = Port.make(port + 1)
        yield* provider.start(name, commandSpec(compile(Step.Listen({ port: other, text: "" }))))
        yield* reached(compile, name, port, "")
        const failure = yield* Effect.flip(provider.connect(name, other))
        assert.deepInclude(failure, { _tag: "PortClosed", name, port: other })
      })
    ),

  "ports are kept when a sandbox is woken": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        yield* provider.resume(name, Duration.minutes(5))
        assert.strictEqual(yield* answerOf(yield* reached(compile, name, port, "woken")), "woken")
      })
    ),

  "connecting to a sandbox that does not run says so, and wakes none": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        assert.strictEqual(yield* tagOf(provider.connect(name, port)), "SandboxNotRunning")
        assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
        yield* provider.remove(name)
        assert.strictEqual(yield* tagOf(provider.connect(name, port)), "SandboxGone")
        assert.isTrue(Option.isNone(yield* provider.find(name)))
      })
    ),

  "a connection breaks when its sandbox stops": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const provider = yield* SandboxProvider
        const connection = yield* reached(compile, name, port, "never said")
        yield* connection.send(utf8("not yet done"))
        yield* provider.stop(name)
        assert.strictEqual(yield* tagOf(received(connection)), "PortClosed")
        assert.strictEqual(yield* tagOf(connection.send(utf8("more"))), "PortClosed")
      })
    ),

  "a connection is closed with its scope": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const connection = yield* Effect.scoped(reached(compile, name, port, "never said"))
        assert.strictEqual(yield* tagOf(connection.send(utf8("too late"))), "PortClosed")
        assert.strictEqual(yield* tagOf(received(connection)), "PortClosed")
      })
    ),

  "a connection never reaches another sandbox's port, or the host's, unless they all listen on one loopback": () =>
    withPort((one, port) =>
      created(
        Effect.fnUntraced(
          function* (other) {
            const provider = yield* SandboxProvider
            if (provider.supports.sharesPorts) {
              yield* reached(compile, one, port, "one")
              assert.strictEqual(yield* answerOf(yield* provider.connect(other, port)), "one")
              return
            }
            yield* listensOnHost(port)
            assert.strictEqual(yield* tagOf(provider.connect(one, port)), "PortClosed")
            const first = yield* reached(compile, one, port, "one")
            assert.strictEqual(yield* tagOf(provider.connect(other, port)), "PortClosed")
            const second = yield* reached(compile, other, port, "other")
            assert.deepStrictEqual([yield* answerOf(first), yield* answerOf(second)], ["one", "other"])
          },
          (effect) => Effect.scoped(effect)
        ),
        { ports: [port] }
      )
    )
})
