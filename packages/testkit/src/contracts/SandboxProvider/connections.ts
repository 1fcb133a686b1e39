import { Port, type PortConnection } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert } from "@effect/vitest"
import { Duration, Effect, Option, Schedule, Scope, Stream } from "effect"
import { createServer } from "node:net"
import { type Compile, Step } from "../../Program.ts"
import type { Clauses } from "../contract.ts"
import { utf8, withSandbox, commandSpec, tagOf, randomPort } from "./fixtures.ts"

/** Creates a sandbox that declares a port. */
const withPort = <A, E>(use: (name: SandboxName, port: Port) => Effect.Effect<A, E, SandboxProvider | Scope.Scope>) =>
  Effect.suspend(() => {
    const port = randomPort()
    return withSandbox((name) => Effect.scoped(use(name, port)), { ports: [port] })
  })

/** Starts a listener in the sandbox, and connects once it accepts. */
const connectToListener = Effect.fnUntraced(function* (compile: Compile, name: SandboxName, port: Port, text: string) {
  const provider = yield* SandboxProvider
  yield* provider.start(name, commandSpec(compile(Step.Listen({ port, text }))))
  return yield* Effect.retry(provider.connect(name, port), {
    while: ({ _tag }) => _tag === "PortClosed",
    schedule: Schedule.spaced("20 millis")
  })
})

/** All bytes that the sandbox sends over a connection. */
const receiveAll = (connection: PortConnection) =>
  Effect.map(Stream.runCollect(connection.incoming), (pieces) => Buffer.concat(pieces))

/** The listener's answer to an empty request. */
const answerToNothing = (connection: PortConnection) =>
  Effect.map(Effect.andThen(connection.end, receiveAll(connection)), (bytes) => bytes.toString())

/** Listens on a port of the host until the scope closes. */
const listenOnHost = (port: Port) =>
  Effect.acquireRelease(
    Effect.callback<ReturnType<typeof createServer>>((resume) => {
      const server = createServer((socket) => socket.end("of the host"))
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )

export const connections = (compile: Compile): Clauses<SandboxProvider> => ({
  "a connection to a declared port carries bytes both ways, and either side can end first": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const connection = yield* connectToListener(compile, name, port, "heard: ")
        const bytes = Buffer.from(Uint8Array.from({ length: 1_000_000 }, (_, index) => (index * 7919) % 251))
        yield* connection.send(bytes.subarray(0, 1000))
        yield* connection.send(bytes.subarray(1000))
        yield* connection.end
        assert.isTrue((yield* receiveAll(connection)).equals(Buffer.concat([utf8("heard: "), bytes])))
        assert.include(connection.host, ":")
      })
    ),

  "sent bytes arrive before the sender ends": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const connection = yield* connectToListener(compile, name, port, "heard: ")
        yield* connection.send(utf8("GET / HTTP/1.1\r\n"))
        yield* connection.send(utf8("\r\n"))
        assert.strictEqual((yield* receiveAll(connection)).toString(), "heard: GET / HTTP/1.1\r\n\r\n")
      })
    ),

  "connecting to a port that is not declared or has no listener fails with PortClosed": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const provider = yield* SandboxProvider
        assert.strictEqual(yield* tagOf(provider.connect(name, port)), "PortClosed")
        const other = Port.make(port + 1)
        yield* provider.start(name, commandSpec(compile(Step.Listen({ port: other, text: "" }))))
        yield* connectToListener(compile, name, port, "")
        const failure = yield* Effect.flip(provider.connect(name, other))
        assert.deepInclude(failure, { _tag: "PortClosed", name, port: other })
      })
    ),

  "a resumed sandbox keeps its declared ports": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        yield* provider.resume(name, Duration.minutes(5))
        assert.strictEqual(yield* answerToNothing(yield* connectToListener(compile, name, port, "woken")), "woken")
      })
    ),

  "connecting to a sandbox that does not run fails and does not resume it": () =>
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

  "a connection fails when its sandbox stops": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const provider = yield* SandboxProvider
        const connection = yield* connectToListener(compile, name, port, "never said")
        yield* connection.send(utf8("not yet done"))
        yield* provider.stop(name)
        assert.strictEqual(yield* tagOf(receiveAll(connection)), "PortClosed")
        assert.strictEqual(yield* tagOf(connection.send(utf8("more"))), "PortClosed")
      })
    ),

  "a connection closes with its scope": () =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const connection = yield* Effect.scoped(connectToListener(compile, name, port, "never said"))
        assert.strictEqual(yield* tagOf(connection.send(utf8("too late"))), "PortClosed")
        assert.strictEqual(yield* tagOf(receiveAll(connection)), "PortClosed")
      })
    ),

  "a connection never reaches a port of another sandbox or of the host unless the provider shares ports": () =>
    withPort((one, port) =>
      withSandbox(
        Effect.fnUntraced(
          function* (other) {
            const provider = yield* SandboxProvider
            if (provider.supports.sharesPorts) {
              yield* connectToListener(compile, one, port, "one")
              assert.strictEqual(yield* answerToNothing(yield* provider.connect(other, port)), "one")
              return
            }
            yield* listenOnHost(port)
            assert.strictEqual(yield* tagOf(provider.connect(one, port)), "PortClosed")
            const first = yield* connectToListener(compile, one, port, "one")
            assert.strictEqual(yield* tagOf(provider.connect(other, port)), "PortClosed")
            const second = yield* connectToListener(compile, other, port, "other")
            assert.deepStrictEqual([yield* answerToNothing(first), yield* answerToNothing(second)], ["one", "other"])
          },
          (effect) => Effect.scoped(effect)
        ),
        { ports: [port] }
      )
    )
})
