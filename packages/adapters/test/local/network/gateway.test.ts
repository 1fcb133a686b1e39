import * as Gateway from "../../../src/local/network/Gateway.ts"
import { parseStat, type ProcessIdentity } from "../../../src/local/process/processes.ts"
import { readJson } from "../../../src/local/storage/files.ts"
import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import type { SandboxRecord } from "../../../src/local/storage/SandboxRecord.ts"
import { openProvider } from "../../../src/local/Bootstrap.ts"
import { CommandId } from "@castellan/domain/sandbox/Command.ts"
import { Port } from "@castellan/domain/sandbox/Port.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { inShell, Step } from "@castellan/testkit/Program.ts"
import { assert, describe, it, layer } from "@effect/vitest"
import { Duration, Effect, Option, Schedule, Stream } from "effect"
import { TestClock } from "effect/testing"
import { existsSync, readFileSync } from "node:fs"
import { createSandbox, withSandboxes, stdoutOf, sh } from "../sandboxes.ts"
import { gatewaysTo, initsOf, providerProcess } from "../process/providerProcesses.ts"
import { localProvider, temporaryDirectory } from "../temporary.ts"

const port = Port.make(5173)
const utf8 = (text: string) => new TextEncoder().encode(text)

let commands = 0

/** Starts a program that runs as long as its sandbox. */
const start = Effect.fnUntraced(function* (name: SandboxName, command: string, args: ReadonlyArray<string>) {
  const provider = yield* SandboxProvider
  const id = CommandId.make(`c${commands++}`)
  yield* provider.start(name, { id, command, args, cwd: null, env: {}, timeout: Duration.minutes(2) })
})

/** Starts a server that runs `body` for each `socket`. */
const serve = (name: SandboxName, body: string, host = "127.0.0.1") =>
  start(name, "node", [
    "-e",
    `require("net").createServer({ allowHalfOpen: true }, (socket) => { ${body} }).listen(${port}, "${host}")`
  ])

/** Connects as soon as a server listens. */
const connect = (name: SandboxName, to = port) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    Effect.retry(provider.connect(name, to), {
      while: ({ _tag }) => _tag === "PortClosed",
      schedule: Schedule.spaced("20 millis"),
      times: 500
    })
  )

/** Reads everything that the server sends. */
const readAll = (name: SandboxName) =>
  Effect.scoped(
    Effect.flatMap(connect(name), ({ end, incoming }) =>
      Effect.andThen(end, incoming.pipe(Stream.decodeText(), Stream.mkString))
    )
  )

/** Waits until the condition holds. */
const until = (condition: () => boolean) =>
  Effect.sync(condition).pipe(
    Effect.filterOrFail(
      (holds) => holds,
      () => "not yet" as const
    ),
    Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 250 })
  )

const listen = (name: SandboxName, text = "hi") => {
  const { args, command } = inShell(Step.Listen({ port, text }))
  return start(name, command, args)
}

layer(withSandboxes(localProvider()), { excludeTestServices: true, timeout: "60 seconds" })(
  "A connection to a local sandbox",
  (it) => {
    it.effect("shares one gateway with many other connections", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* listen(name)
        yield* readAll(name)
        const all = yield* Effect.all(
          Array.from({ length: 200 }, () => readAll(name)),
          { concurrency: "unbounded" }
        )
        assert.deepStrictEqual(new Set(all), new Set(["hi"]))
        assert.lengthOf(gatewaysTo(initsOf(name)), 1)
      }).pipe(Effect.scoped)
    )

    it.effect("starts one gateway for many first connections at once", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        const provider = yield* SandboxProvider
        const tries = Array.from({ length: 20 }, () => Effect.flip(Effect.scoped(provider.connect(name, port))))
        for (const { _tag } of yield* Effect.all(tries, { concurrency: "unbounded" })) {
          assert.strictEqual(_tag, "PortClosed")
        }
        assert.lengthOf(gatewaysTo(initsOf(name)), 1)
      }).pipe(Effect.scoped)
    )

    it.effect("starts no gateway for a port that was not declared", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        const provider = yield* SandboxProvider
        const failure = yield* Effect.flip(Effect.scoped(provider.connect(name, Port.make(port + 1))))
        assert.strictEqual(failure._tag, "PortClosed")
        assert.deepStrictEqual(gatewaysTo(initsOf(name)), [])
      }).pipe(Effect.scoped)
    )

    it.effect("can be read and written after the other side has ended", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* serve(name, `socket.end("bye"); socket.on("data", (it) => require("fs").appendFileSync("got", it))`)
        const { incoming, send } = yield* connect(name)
        assert.strictEqual(yield* incoming.pipe(Stream.decodeText(), Stream.mkString), "bye")
        yield* send(utf8("and "))
        yield* send(utf8("more"))
        yield* Effect.retry(
          Effect.flatMap(stdoutOf(name, "cat got"), (received) =>
            received === "and more" ? Effect.void : Effect.fail(received)
          ),
          { schedule: Schedule.spaced("50 millis"), times: 100 }
        )
      }).pipe(Effect.scoped)
    )

    it.effect("can be read in several steps without loss", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* serve(name, `socket.write("first"); socket.once("data", () => socket.end("second"))`)
        const { incoming, send } = yield* connect(name)
        const first = yield* Stream.runHead(incoming)
        assert.deepStrictEqual(Option.map(first, String), Option.some("first"))
        yield* send(utf8("go on"))
        assert.strictEqual(yield* incoming.pipe(Stream.decodeText(), Stream.mkString), "second")
      }).pipe(Effect.scoped)
    )

    it.effect("applies back-pressure to a sender", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* serve(name, "socket.pause()")
        const { send } = yield* connect(name)
        let sent = 0
        const mebibyte = new Uint8Array(1024 * 1024)
        const more = Effect.forever(
          Effect.andThen(
            send(mebibyte),
            Effect.sync(() => sent++)
          )
        )
        yield* Effect.timeoutOption(more, "1 second")
        assert.isBelow(sent, 32)
      }).pipe(Effect.scoped)
    )

    it.effect("applies back-pressure to the server inside", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        const fill = `let n = 0; const go = () => { do n++; while (socket.write(Buffer.alloc(65536))); require("fs").writeFileSync("n", String(n)) }; socket.on("drain", go); go()`
        yield* serve(name, fill)
        yield* connect(name)
        yield* Effect.sleep("500 millis")
        const before = Number(yield* stdoutOf(name, "cat n"))
        yield* Effect.sleep("300 millis")
        assert.strictEqual(Number(yield* stdoutOf(name, "cat n")), before)
        assert.isBelow(before, 32 * 16)
      }).pipe(Effect.scoped)
    )

    it.effect.skipIf(!existsSync("/proc/net/if_inet6"))("reaches a server that listens on the IPv6 loopback only", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* serve(name, `socket.end("six")`, "::1")
        assert.strictEqual(yield* readAll(name), "six")
      }).pipe(Effect.scoped)
    )

    it.effect("breaks when its sandbox ends by itself", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* listen(name)
        const { incoming } = yield* connect(name)
        const inits = initsOf(name)
        for (const init of inits) process.kill(init, "SIGKILL")
        // A later read fails, too.
        yield* until(() => gatewaysTo(inits).length === 0)
        assert.strictEqual((yield* Effect.flip(Stream.runDrain(incoming)))._tag, "PortClosed")
        const provider = yield* SandboxProvider
        assert.strictEqual((yield* Effect.flip(provider.connect(name, port)))._tag, "SandboxNotRunning")
      }).pipe(Effect.scoped)
    )
  }
)

layer(withSandboxes(localProvider()), { excludeTestServices: true, timeout: "60 seconds" })(
  "The gateway of a local sandbox",
  (it) => {
    for (const end of ["stop", "remove"] as const) {
      it.effect(`ends with its sandbox on ${end}`, () =>
        Effect.gen(function* () {
          const name = yield* createSandbox({ ports: [port] })
          yield* listen(name)
          yield* readAll(name)
          const inits = initsOf(name)
          assert.lengthOf(gatewaysTo(inits), 1)
          yield* (yield* SandboxProvider)[end](name)
          assert.deepStrictEqual(gatewaysTo(inits), [])
        }).pipe(Effect.scoped)
      )
    }

    it.effect("can be neither seen nor killed from inside", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* Effect.flip((yield* SandboxProvider).connect(name, port))
        const [gateway] = gatewaysTo(initsOf(name))
        assert.isDefined(gateway)
        assert.strictEqual(
          yield* stdoutOf(name, "cat /proc/[0-9]*/cmdline | tr '\\0' '\\n' | grep -cx -- '[.]/node'"),
          "0"
        )
        yield* sh(name, `kill -s KILL -- -1; kill -s KILL ${gateway}`)
        yield* listen(name, "still here")
        assert.strictEqual(yield* readAll(name), "still here")
        assert.deepStrictEqual(gatewaysTo(initsOf(name)), [gateway])
      }).pipe(Effect.scoped)
    )

    it.effect("has no capabilities in the sandbox or outside", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* Effect.flip((yield* SandboxProvider).connect(name, port))
        const [gateway] = gatewaysTo(initsOf(name))
        const status = readFileSync(`/proc/${gateway}/status`, "utf8")
        for (const nothing of [/^CapEff:\s0+$/m, /^CapPrm:\s0+$/m, /^NoNewPrivs:\s1$/m]) {
          assert.match(status, nothing)
        }
        assert.notMatch(status, /^Uid:\s0/m)
      }).pipe(Effect.scoped)
    )

    it.effect("is started again after it was killed", () =>
      Effect.gen(function* () {
        const name = yield* createSandbox({ ports: [port] })
        yield* listen(name)
        yield* readAll(name)
        const [first] = gatewaysTo(initsOf(name))
        process.kill(first!, "SIGKILL")
        yield* until(() => gatewaysTo(initsOf(name)).length === 0)
        yield* Effect.retry(readAll(name), { times: 3 })
        assert.lengthOf(gatewaysTo(initsOf(name)), 1)
      }).pipe(Effect.scoped)
    )
  }
)

describe("The gateway of a local sandbox", () => {
  it.effect("ends after a minute without use", () =>
    Effect.gen(function* () {
      // The sandbox uses the real time.
      yield* TestClock.setTime(Date.now())
      const name = yield* createSandbox({ ports: [port], lifetime: Duration.hours(1) })
      const provider = yield* SandboxProvider
      const tried = Effect.flip(Effect.scoped(provider.connect(name, port)))
      yield* tried
      yield* TestClock.adjust("50 seconds")
      yield* tried
      yield* TestClock.adjust("50 seconds")
      assert.lengthOf(gatewaysTo(initsOf(name)), 1)
      yield* TestClock.adjust("10 seconds")
      yield* TestClock.withLive(until(() => gatewaysTo(initsOf(name)).length === 0))
      yield* tried
      assert.lengthOf(gatewaysTo(initsOf(name)), 1)
    }).pipe(Effect.scoped, Effect.provide(withSandboxes(localProvider())))
  )

  it.live("does not enter the network of a process that reuses the number of the first process", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const { isolation, layout } = yield* openProvider({ directory })
      const gateways = yield* Gateway.make(isolation, Effect.never)
      yield* Effect.gen(function* () {
        const files = layout.sandbox(yield* createSandbox({ ports: [port] }))
        const init = parseStat(readFileSync(files.init, "utf8"))!
        const record = readJson<SandboxRecord>(files.record)!
        const ensure = (init: ProcessIdentity) => gateways.ensureRunning({ record, files, init })
        yield* ensure(init)
        const earlier = { ...init, startTime: String(Number(init.startTime) - 1) }
        assert.strictEqual((yield* Effect.flip(ensure(earlier)))._tag, "SandboxUnavailable")
        assert.lengthOf(gatewaysTo([init.pid]), 1)
      }).pipe(Effect.scoped, Effect.provide(withSandboxes(LocalSandbox.layer({ directory }))))
    }).pipe(Effect.scoped)
  )

  it.live("ends with the provider while the sandbox runs on", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const name = SandboxName.make(`life-${process.pid}`)
      const withProvider = <A, E>(use: (provider: SandboxProvider["Service"]) => Effect.Effect<A, E>) =>
        Effect.provide(Effect.flatMap(SandboxProvider, use), LocalSandbox.layer({ directory }))
      const spec = { name, from: Option.none(), lifetime: Duration.minutes(5), ports: [port] }
      const inits = yield* withProvider((provider) =>
        Effect.gen(function* () {
          yield* provider.create(spec)
          yield* Effect.flip(Effect.scoped(provider.connect(name, port)))
          assert.lengthOf(gatewaysTo(initsOf(name)), 1)
          return initsOf(name)
        })
      )
      assert.deepStrictEqual([gatewaysTo(inits), initsOf(name)], [[], inits])
      yield* withProvider((provider) => provider.remove(name))
    }).pipe(Effect.scoped)
  )

  it.live("ends when its server is killed, while another server keeps its own gateway", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const [first, second] = yield* Effect.all([providerProcess(directory), providerProcess(directory)], {
        concurrency: 2
      })
      const name = SandboxName.make(`gateway-${process.pid}`)
      yield* Effect.addFinalizer(() => second.tryRequest({ do: "remove", name }))
      yield* first.request({ do: "create", name, lifetime: 5 * 60_000, ports: [port] })
      const serve = `node -e 'require("net").createServer((s) => s.end("hi")).listen(${port}, "127.0.0.1")' > /dev/null 2>&1 & sleep 0.5`
      yield* first.request({ do: "sh", name, script: serve })
      const inits = initsOf(name)
      assert.strictEqual(yield* first.request<string>({ do: "read", name, port }), "hi")
      assert.strictEqual(yield* second.request<string>({ do: "read", name, port }), "hi")
      assert.lengthOf(gatewaysTo(inits), 2)
      yield* first.kill
      yield* until(() => gatewaysTo(inits).length === 1)
      assert.deepStrictEqual(initsOf(name), inits)
      assert.strictEqual(yield* second.request<string>({ do: "read", name, port }), "hi")
      yield* second.kill
      yield* until(() => gatewaysTo(inits).length === 0)
      const third = yield* providerProcess(directory)
      yield* Effect.addFinalizer(() => third.tryRequest({ do: "remove", name }))
      assert.strictEqual(yield* third.request<string>({ do: "read", name, port }), "hi")
    }).pipe(Effect.scoped)
  )
})
