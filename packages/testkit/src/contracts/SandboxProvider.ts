/** What every provider of sandboxes promises, as data: run over each of them, and over broken ones to see that it bites. */
import { CommandId, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { Port, type PortConnection } from "@castellan/domain/sandbox/Port.ts"
import { FileMode, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { type CommandSpec, SandboxProvider, type SandboxSpec } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, it } from "@effect/vitest"
import { DateTime, Duration, Effect, type Layer, Option, Result, Schedule, Scope, Stream } from "effect"
import { SecureRandom } from "effect/crypto"
import { randomInt } from "node:crypto"
import { createServer } from "node:net"
import { type Compile, Step, type Vector } from "../Program.ts"

type Promise = (compile: Compile) => Effect.Effect<void, unknown, SandboxProvider>

const print = (text: string) => Step.Print({ text, to: "stdout" })
const path = (text: string) => SandboxPath.make(text)
const unknown = SandboxName.make("no-such-sandbox")
const utf8 = (text: string) => new TextEncoder().encode(text)

/** A name nobody else has, and its sandbox gone when the promise is over. */
const named = <A, E>(use: (name: SandboxName) => Effect.Effect<A, E, SandboxProvider>) =>
  Effect.acquireUseRelease(
    Effect.sync(() => SandboxName.make(`t-${SecureRandom.uuidV4Unsafe()}`)),
    use,
    (name) => Effect.flatMap(SandboxProvider, (provider) => Effect.ignore(provider.remove(name)))
  )

const specOf = (name: SandboxName, from?: SnapshotId) => ({
  name,
  from: Option.fromUndefinedOr(from),
  lifetime: Duration.minutes(5)
})

const created = <A, E>(
  use: (name: SandboxName) => Effect.Effect<A, E, SandboxProvider>,
  more: Partial<SandboxSpec> = {}
) =>
  named((name) =>
    Effect.andThen(
      Effect.flatMap(SandboxProvider, (provider) => provider.create({ ...specOf(name), ...more })),
      use(name)
    )
  )

let commands = 0

const commandSpec = (vector: Vector, more: Partial<CommandSpec> = {}): CommandSpec => ({
  ...vector,
  id: CommandId.make(`c${commands++}`),
  cwd: null,
  env: {},
  timeout: Duration.minutes(1),
  ...more
})

const printed = Effect.fnUntraced(function* (name: SandboxName, id: CommandId, from = OutputPosition.start) {
  const provider = yield* SandboxProvider
  const bytes: Record<"stdout" | "stderr", Array<number>> = { stdout: [], stderr: [] }
  yield* Stream.runForEach(provider.output(name, id, from), (piece) =>
    Effect.sync(() => {
      for (const byte of piece.bytes) bytes[piece.stream].push(byte)
    })
  )
  const text = (all: Array<number>) => new TextDecoder().decode(Uint8Array.from(all))
  return { stdout: text(bytes.stdout), stderr: text(bytes.stderr) }
})

/** Runs a command to its end and reads what it printed. */
const ran = Effect.fnUntraced(function* (name: SandboxName, vector: Vector, more: Partial<CommandSpec> = {}) {
  const provider = yield* SandboxProvider
  const spec = commandSpec(vector, more)
  yield* provider.start(name, spec)
  const { end } = yield* provider.wait(name, spec.id)
  return { id: spec.id, end: end!, ...(yield* printed(name, spec.id)) }
})

const fileText = Effect.fnUntraced(function* (name: SandboxName, file: string) {
  const provider = yield* SandboxProvider
  return yield* provider.readFile(name, path(file)).pipe(Stream.decodeText(), Stream.mkString)
})

/** The first page of what is in a directory, or of all that is below it. */
const listed = (name: SandboxName, directory: string, depth = 1) =>
  Effect.flatMap(SandboxProvider, (provider) => provider.listFiles(name, path(directory), { depth, limit: 1000 }))

const everything = 64

const written = (name: SandboxName, file: string, text: string) =>
  Effect.flatMap(SandboxProvider, (provider) => provider.writeFile(name, path(file), Stream.make(utf8(text))))

const tagOf = <E extends { readonly _tag: string }, R>(effect: Effect.Effect<unknown, E, R>) =>
  Effect.map(Effect.flip(effect), (error) => error._tag)

type Moment = <A, E, B, F>(
  start: Effect.Effect<A, E>,
  other: Effect.Effect<B, F>
) => Effect.Effect<readonly [A, B], E | F>

/** What may meet the start of a command: together with it, a little later, and as soon as it has returned. */
const momentsOfStart: ReadonlyArray<Moment> = [
  (start, other) => Effect.all([start, other], { concurrency: 2 }),
  (start, other) => Effect.all([start, Effect.andThen(Effect.sleep("5 millis"), other)], { concurrency: 2 }),
  (start, other) => Effect.all([start, other]),
  (start, other) => Effect.all([start, Effect.andThen(Effect.sleep("10 millis"), other)])
]

/** What ends a sandbox under its commands. */
const endings: Readonly<
  Record<string, (provider: SandboxProvider["Service"], name: SandboxName) => Effect.Effect<unknown, unknown>>
> = {
  stop: (provider, name) => provider.stop(name),
  remove: (provider, name) => provider.remove(name),
  snapshot: (provider, name) => Effect.flatMap(provider.snapshot(name), ({ id }) => provider.removeSnapshot(id))
}

/** How a command may end whose sandbox ends as it starts: by what, or the tag of the failure that tells it. */
const outcomes: Readonly<Record<string, ReadonlyArray<string>>> = {
  stop: ["lost", "SandboxNotRunning"],
  // A provider may stop a sandbox before it removes it.
  remove: ["CommandNotFound", "SandboxGone", "SandboxNotRunning"],
  snapshot: ["lost", "SandboxNotRunning", "killed"]
}

/** How a command is seen to end: by what, or the tag of the failure that says so. */
const outcomeOf = Effect.fnUntraced(function* (
  name: SandboxName,
  spec: CommandSpec,
  started: Result.Result<unknown, { readonly _tag: string }>,
  way: string
) {
  const provider = yield* SandboxProvider
  if (Result.isFailure(started)) return started.failure._tag
  // A snapshot need not stop its source.
  if (way === "snapshot" && !provider.supports.snapshotStops) yield* provider.kill(name, spec.id)
  return yield* provider.wait(name, spec.id).pipe(
    Effect.map(({ end }) => end?.by),
    Effect.catch(({ _tag }) => Effect.succeed(_tag))
  )
})

/** A port that nothing else is likely to have where loopbacks are shared. */
const somePort = () => Port.make(randomInt(20_000, 30_000))

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

export const promises: Record<string, Promise> = {
  "a new sandbox runs, until its lifetime is over": () =>
    named(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const before = yield* DateTime.now
        const sandbox = yield* provider.create(specOf(name))
        assert.deepStrictEqual([sandbox.name, sandbox.status, sandbox.reason], [name, "running", null])
        const lifetime = sandbox.expiresAt.epochMilliseconds - before.epochMilliseconds
        assert.isAtLeast(lifetime, 5 * 60_000)
        assert.isAtMost(lifetime, 5 * 60_000 + 30_000)
      })
    ),

  "creating a name twice gives the first sandbox back, with its files": (compile) =>
    named(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const first = yield* provider.create(specOf(name))
        yield* ran(name, compile(Step.Append({ path: "kept", text: "1" })))
        assert.deepStrictEqual(yield* provider.create(specOf(name)), first)
        assert.strictEqual(yield* fileText(name, "kept"), "1")
      })
    ),

  "creating one name many times at once makes one sandbox": () =>
    named(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const all = yield* Effect.all(
          Array.from({ length: 8 }, () => provider.create(specOf(name))),
          { concurrency: "unbounded" }
        )
        for (const one of all) assert.deepStrictEqual(one, all[0])
      })
    ),

  "a sandbox that stopped is given back by create as it is, and not woken": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        assert.strictEqual((yield* provider.create(specOf(name))).status, "stopped")
      })
    ),

  "find gives the sandbox of a name, and none where there is none": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "running")
        assert.isTrue(Option.isNone(yield* provider.find(unknown)))
      })
    ),

  "finding a stopped sandbox does not wake it": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        for (let look = 0; look < 2; look++) {
          assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
          assert.strictEqual((yield* provider.findMany([name]))[0]?.status, "stopped")
        }
      })
    ),

  "findMany gives those of the names that exist": () =>
    created((one) =>
      created(
        Effect.fnUntraced(function* (two) {
          const provider = yield* SandboxProvider
          const found = yield* provider.findMany([one, unknown, two])
          assert.deepStrictEqual(new Set(found.map(({ name }) => name)), new Set([one, two]))
          assert.deepStrictEqual(yield* provider.findMany([]), [])
        })
      )
    ),

  "stop ends what runs and keeps the files for resume": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* ran(name, compile(Step.Append({ path: "kept", text: "here" })))
        yield* provider.stop(name)
        const resumed = yield* provider.resume(name, Duration.minutes(9))
        assert.strictEqual(resumed.status, "running")
        assert.isAbove(resumed.expiresAt.epochMilliseconds, (yield* DateTime.now).epochMilliseconds + 8 * 60_000)
        assert.strictEqual(yield* fileText(name, "kept"), "here")
        assert.strictEqual((yield* ran(name, compile(print("again")))).stdout, "again")
      })
    ),

  "resume leaves a running sandbox as it is": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const before = Option.getOrThrow(yield* provider.find(name))
        assert.deepStrictEqual(yield* provider.resume(name, Duration.hours(1)), before)
      })
    ),

  "each run of a sandbox is an incarnation of its own, and all who tell of it tell the same": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const told = Effect.fnUntraced(function* () {
          const { incarnation } = Option.getOrThrow(yield* provider.find(name))
          const [one] = yield* provider.findMany([name])
          const made = yield* provider.create(specOf(name))
          for (const other of [one!, made]) assert.strictEqual(other.incarnation, incarnation)
          return incarnation
        })
        const first = yield* told()
        assert.notStrictEqual(first, "")
        assert.strictEqual((yield* provider.extend(name, Duration.minutes(1))).incarnation, first)
        assert.strictEqual((yield* provider.resume(name, Duration.minutes(1))).incarnation, first)
        yield* provider.stop(name)
        assert.strictEqual(yield* told(), first)
        const second = (yield* provider.resume(name, Duration.minutes(5))).incarnation
        assert.strictEqual(yield* told(), second)
        yield* provider.remove(name)
        const third = (yield* provider.create(specOf(name))).incarnation
        assert.strictEqual(yield* told(), third)
        assert.strictEqual(new Set([first, second, third]).size, 3)
      })
    ),

  "a stop that is meant for one run stops no other, however late it arrives": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const first = Option.getOrThrow(yield* provider.find(name)).incarnation
        yield* provider.stop(name, first)
        yield* provider.stop(name, first)
        yield* provider.stop(unknown, first)
        assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
        const second = yield* provider.resume(name, Duration.minutes(5))
        yield* provider.stop(name, first)
        assert.deepStrictEqual(Option.getOrThrow(yield* provider.find(name)), second)
        yield* provider.stop(name, second.incarnation)
        assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "stopped")
      })
    ),

  "a stop that is meant for the run before never stops the one that begins meanwhile": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        for (let round = 0; round < 3; round++) {
          const { incarnation } = Option.getOrThrow(yield* provider.find(name))
          yield* provider.stop(name)
          const stop = provider.stop(name, incarnation)
          const [, resumed] = yield* Effect.all([stop, provider.resume(name, Duration.minutes(5)), stop, stop], {
            concurrency: "unbounded"
          })
          assert.deepStrictEqual(Option.getOrThrow(yield* provider.find(name)), resumed)
          assert.strictEqual(resumed.status, "running")
        }
      })
    ),

  "stop succeeds for a sandbox that is stopped or gone": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        yield* provider.stop(name)
        yield* provider.stop(unknown)
        assert.isTrue(Option.isNone(yield* provider.find(unknown)))
      })
    ),

  "remove forgets the sandbox and its files, and may be repeated": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* ran(name, compile(Step.Append({ path: "gone", text: "x" })))
        yield* provider.remove(name)
        yield* provider.remove(name)
        assert.isTrue(Option.isNone(yield* provider.find(name)))
        yield* provider.create(specOf(name))
        assert.deepStrictEqual(yield* listed(name, ".", everything), { files: [], next: null })
      })
    ),

  "extend moves the end further away": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const before = Option.getOrThrow(yield* provider.find(name))
        const after = yield* provider.extend(name, Duration.minutes(10))
        assert.strictEqual(after.expiresAt.epochMilliseconds - before.expiresAt.epochMilliseconds, 600_000)
        assert.deepStrictEqual(Option.getOrThrow(yield* provider.find(name)), after)
      })
    ),

  "a sandbox boots from a snapshot with the files of that moment": (compile) =>
    created((source) =>
      named(
        Effect.fnUntraced(function* (copy) {
          const provider = yield* SandboxProvider
          yield* ran(source, compile(Step.Append({ path: "file", text: "then" })))
          const snapshot = yield* provider.snapshot(source)
          assert.strictEqual(snapshot.source, source)
          yield* provider.create(specOf(copy, snapshot.id))
          assert.strictEqual(yield* fileText(copy, "file"), "then")
          yield* provider.removeSnapshot(snapshot.id)
        })
      )
    ),

  "what is written after a snapshot, by its source or by its children, is not in it": (compile) =>
    created((source) =>
      named((one) =>
        named(
          Effect.fnUntraced(function* (two) {
            const provider = yield* SandboxProvider
            yield* ran(source, compile(Step.Append({ path: "file", text: "a" })))
            const snapshot = yield* provider.snapshot(source)
            yield* provider.resume(source, Duration.minutes(5))
            yield* ran(source, compile(Step.Append({ path: "file", text: "b" })))
            yield* provider.create(specOf(one, snapshot.id))
            yield* ran(one, compile(Step.Append({ path: "file", text: "c" })))
            yield* provider.create(specOf(two, snapshot.id))
            assert.strictEqual(yield* fileText(source, "file"), "ab")
            assert.strictEqual(yield* fileText(one, "file"), "ac")
            assert.strictEqual(yield* fileText(two, "file"), "a")
            yield* provider.removeSnapshot(snapshot.id)
          })
        )
      )
    ),

  "a snapshot stops its source only where the provider says so": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const snapshot = yield* provider.snapshot(name)
        const { status } = Option.getOrThrow(yield* provider.find(name))
        assert.strictEqual(status, provider.supports.snapshotStops ? "stopped" : "running")
        yield* provider.removeSnapshot(snapshot.id)
      })
    ),

  "the snapshots of a sandbox are known for as long as they exist, also once it is removed": () =>
    created((name) =>
      created((other) =>
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          assert.deepStrictEqual(yield* provider.snapshots(name), [])
          const first = yield* provider.snapshot(name)
          const foreign = yield* provider.snapshot(other)
          const second = yield* provider.snapshot(name)
          const known = yield* provider.snapshots(name)
          assert.deepStrictEqual(new Set(known.map(({ id }) => id)), new Set([first.id, second.id]))
          yield* provider.removeSnapshot(first.id)
          yield* provider.remove(name)
          assert.deepStrictEqual(yield* provider.snapshots(name), [second])
          yield* provider.removeSnapshot(second.id)
          yield* provider.removeSnapshot(foreign.id)
          assert.deepStrictEqual(yield* provider.snapshots(name), [])
        })
      )
    ),

  "no sandbox boots from a snapshot that was removed or never was, and those that did live on": (compile) =>
    created((source) =>
      named((child) =>
        named(
          Effect.fnUntraced(function* (late) {
            const provider = yield* SandboxProvider
            yield* ran(source, compile(Step.Append({ path: "file", text: "kept" })))
            const snapshot = yield* provider.snapshot(source)
            yield* provider.create(specOf(child, snapshot.id))
            yield* provider.removeSnapshot(snapshot.id)
            yield* provider.removeSnapshot(snapshot.id)
            yield* provider.remove(source)
            assert.strictEqual(yield* tagOf(provider.create(specOf(late, snapshot.id))), "SnapshotGone")
            assert.strictEqual(
              yield* tagOf(provider.create(specOf(late, SnapshotId.make("snap_none")))),
              "SnapshotGone"
            )
            assert.isTrue(Option.isNone(yield* provider.find(late)))
            assert.strictEqual(yield* fileText(child, "file"), "kept")
            yield* provider.stop(child)
            yield* provider.resume(child, Duration.minutes(5))
            assert.strictEqual(yield* fileText(child, "file"), "kept")
          })
        )
      )
    ),

  "an unknown sandbox is gone, whatever is asked of it": () =>
    Effect.gen(function* () {
      const provider = yield* SandboxProvider
      const id = CommandId.make("c")
      const asked: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
        provider.resume(unknown, Duration.minutes(1)),
        provider.extend(unknown, Duration.minutes(1)),
        provider.snapshot(unknown),
        provider.start(unknown, commandSpec({ command: "echo", args: [] })),
        provider.command(unknown, id),
        provider.wait(unknown, id),
        Stream.runDrain(provider.output(unknown, id, OutputPosition.start)),
        provider.kill(unknown, id),
        Stream.runDrain(provider.readFile(unknown, path("x"))),
        provider.writeFile(unknown, path("x"), Stream.empty),
        provider.listFiles(unknown, path("."), { depth: 1, limit: 1 }),
        Effect.scoped(provider.connect(unknown, somePort()))
      ]
      for (const one of asked) assert.strictEqual(yield* tagOf(one), "SandboxGone")
    }),

  "a stopped sandbox does nothing that needs it running": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* provider.stop(name)
        const asked: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
          provider.extend(name, Duration.minutes(1)),
          provider.start(name, commandSpec({ command: "echo", args: [] })),
          Stream.runDrain(provider.readFile(name, path("x"))),
          provider.writeFile(name, path("x"), Stream.empty),
          provider.listFiles(name, path("."), { depth: 1, limit: 1 })
        ]
        for (const one of asked) assert.strictEqual(yield* tagOf(one), "SandboxNotRunning")
      })
    ),

  "a command nobody started is not found": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const id = CommandId.make("never")
        const asked: ReadonlyArray<Effect.Effect<unknown, { readonly _tag: string }>> = [
          provider.command(name, id),
          provider.wait(name, id),
          provider.kill(name, id),
          Stream.runDrain(provider.output(name, id, OutputPosition.start))
        ]
        for (const one of asked) assert.strictEqual(yield* tagOf(one), "CommandNotFound")
      })
    ),

  "a sandbox that was made from a snapshot knows nothing of the commands of its source": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* ran(name, compile(print("of the source")))
        const snapshot = yield* provider.snapshot(name)
        yield* named(
          Effect.fnUntraced(function* (copy) {
            yield* provider.create(specOf(copy, snapshot.id))
            assert.strictEqual(yield* tagOf(provider.command(copy, id)), "CommandNotFound")
            const output = Stream.runDrain(provider.output(copy, id, OutputPosition.start))
            assert.strictEqual(yield* tagOf(output), "CommandNotFound")
            yield* provider.start(copy, commandSpec(compile(print("of the copy")), { id }))
            yield* provider.wait(copy, id)
            assert.strictEqual((yield* printed(copy, id)).stdout, "of the copy")
          })
        )
        assert.strictEqual((yield* printed(name, id)).stdout, "of the source")
        yield* provider.removeSnapshot(snapshot.id)
      })
    ),

  "a command that has ended can be forgotten, and one that runs can't": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* ran(name, compile(print("said")))
        const running = commandSpec(compile(Step.Sleep({ millis: 60_000 })))
        yield* provider.start(name, running)
        for (const one of [id, running.id, id, CommandId.make("nobody-started-it")]) yield* provider.forget(name, one)
        assert.strictEqual(yield* tagOf(provider.command(name, id)), "CommandNotFound")
        const output = Stream.runDrain(provider.output(name, id, OutputPosition.start))
        assert.strictEqual(yield* tagOf(output), "CommandNotFound")
        assert.isNull((yield* provider.command(name, running.id)).end)
        yield* provider.kill(name, running.id)
        yield* provider.forget(unknown, id)
      })
    ),

  "starting a command twice runs it once": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(Step.Append({ path: "times", text: "x" }), Step.Sleep({ millis: 100 })))
        yield* Effect.all([provider.start(name, spec), provider.start(name, spec)], { concurrency: 2 })
        yield* provider.wait(name, spec.id)
        assert.isNotNull((yield* provider.start(name, spec)).end)
        yield* provider.wait(name, spec.id)
        assert.strictEqual(yield* fileText(name, "times"), "x")
      })
    ),

  "arguments reach the program as they are": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const args = ["$(id)", "a b", "'", '"', "`x`", ";", "&&", "*", "", "é\n€"]
        const { stdout } = yield* ran(name, { command: "echo", args })
        assert.strictEqual(stdout, `${args.join(" ")}\n`)
      })
    ),

  "a command ends with what its program returned": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        for (const code of [0, 3, 255]) {
          const { end } = yield* ran(name, compile(Step.Exit({ code })))
          assert.deepStrictEqual([end.by, end.exitCode], ["exited", code])
        }
      })
    ),

  "a program that can't be run ends as unstarted with the reason, and nothing is printed": () =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "plain/file", "not a program")
        const programs = {
          "no-such-program": "command_not_found",
          "ls -la": "command_not_found",
          "two\nlines": "command_not_found",
          "A=b": "command_not_found",
          "-x": "command_not_found",
          "./no/such": "command_not_found",
          "plain/file/below": "command_not_found",
          "./plain": "command_is_directory",
          "/": "command_is_directory",
          "plain/file": "command_not_executable"
        }
        const ends = yield* Effect.forEach(
          Object.keys(programs),
          (command) =>
            Effect.map(ran(name, { command, args: ["x"] }), ({ end, stderr, stdout }) => [
              command,
              end.by,
              end.failure,
              stdout + stderr
            ]),
          { concurrency: 10 }
        )
        assert.deepStrictEqual(
          ends,
          Object.entries(programs).map(([command, failure]) => [command, "unstarted", failure, ""])
        )
      })
    ),

  "a command whose directory can't be entered ends as unstarted with the reason, and nothing is printed": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "file", "")
        const directories = {
          "/no/such/directory": "cwd_not_found",
          nowhere: "cwd_not_found",
          file: "cwd_not_directory",
          "file/below": "cwd_not_found"
        }
        const ends = yield* Effect.forEach(
          Object.keys(directories),
          (cwd) =>
            Effect.map(ran(name, compile(print("x")), { cwd }), ({ end, stderr, stdout }) => [
              cwd,
              end.by,
              end.failure,
              stdout + stderr
            ]),
          { concurrency: 4 }
        )
        assert.deepStrictEqual(
          ends,
          Object.entries(directories).map(([cwd, failure]) => [cwd, "unstarted", failure, ""])
        )
      })
    ),

  "a command runs in the home directory, or where it is told to": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const home = (yield* ran(name, compile(Step.PrintVariable({ name: "HOME" })))).stdout
        const directory = (cwd: string | null) =>
          Effect.map(ran(name, compile(Step.PrintDirectory()), { cwd }), ({ stdout }) => stdout)
        assert.match(home, /^\//)
        assert.strictEqual(yield* directory(null), home)
        yield* written(name, "sub/file", "")
        assert.strictEqual(yield* directory("sub"), `${home}/sub`)
        assert.strictEqual(yield* directory("/"), "/")
      })
    ),

  "a command has the variables it is given": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const env = { GREETING: "héllo 'world' $HOME" }
        const { stdout } = yield* ran(name, compile(Step.PrintVariable({ name: "GREETING" })), { env })
        assert.strictEqual(stdout, env.GREETING)
      })
    ),

  "the two streams of output are kept apart, to the byte": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const text = "€uro 日本語 🦀\n"
        const result = yield* ran(
          name,
          compile(print(text), Step.Print({ text: "oops\n", to: "stderr" }), print("end"))
        )
        assert.strictEqual(result.stdout, `${text}end`)
        assert.strictEqual(result.stderr, "oops\n")
      })
    ),

  "output can be read again, from any position": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const { id } = yield* ran(name, compile(print("0123456789"), Step.Print({ text: "abc", to: "stderr" })))
        assert.deepStrictEqual(yield* printed(name, id), { stdout: "0123456789", stderr: "abc" })
        const middle = new OutputPosition({ stdout: 4, stderr: 1 })
        assert.deepStrictEqual(yield* printed(name, id, middle), { stdout: "456789", stderr: "bc" })
      })
    ),

  "every piece of output tells where to go on": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* ran(name, compile(print("0123456789"), Step.Print({ text: "abc", to: "stderr" })))
        const pieces = yield* Stream.runCollect(provider.output(name, id, OutputPosition.start))
        assert.deepStrictEqual(pieces.at(-1)?.next, new OutputPosition({ stdout: 10, stderr: 3 }))
      })
    ),

  "a stream whose position lies beyond its end gives nothing": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const { id } = yield* ran(name, compile(print("out"), Step.Print({ text: "err", to: "stderr" })))
        assert.deepStrictEqual(yield* printed(name, id, OutputPosition.only("stderr")), { stdout: "", stderr: "err" })
      })
    ),

  "output can be read while its command still runs, and ends with it": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(print("first"), Step.Sleep({ millis: 1200 }), print("last")))
        yield* provider.start(name, spec)
        yield* Stream.runHead(provider.output(name, spec.id, OutputPosition.start))
        assert.isNull((yield* provider.command(name, spec.id)).end)
        assert.strictEqual((yield* printed(name, spec.id)).stdout, "firstlast")
        assert.isNotNull((yield* provider.command(name, spec.id)).end)
      })
    ),

  "output beyond what is kept is dropped, and its command goes on to its end": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const kept = provider.supports.outputKept
        const lines = Math.ceil((kept * 1.5) / 1024)
        const { end, id } = yield* ran(name, compile(Step.Flood({ lines, length: 1024 }), Step.Exit({ code: 7 })))
        assert.deepStrictEqual([end.by, end.exitCode], ["exited", 7])
        const size = yield* Stream.runFold(
          provider.output(name, id, OutputPosition.start),
          () => 0,
          (size, piece) => size + piece.bytes.length
        )
        assert.strictEqual(size, kept)
      })
    ),

  "a command has ended when its program has, whatever it left behind": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const { end, stdout } = yield* ran(
          name,
          compile(Step.Leave({ path: "left" }), print("done"), Step.Exit({ code: 0 }))
        )
        assert.deepStrictEqual([end.by, end.exitCode, stdout], ["exited", 0, "done"])
      })
    ),

  "a command is killed at its deadline": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const late = compile(print("early"), Step.Sleep({ millis: 20_000 }), print("late"))
        const { end, stdout } = yield* ran(name, late, { timeout: Duration.millis(1200) })
        assert.deepStrictEqual([end.by, end.exitCode, stdout], ["timedOut", 137, "early"])
      })
    ),

  "kill ends a command and every process it started": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(Step.Leave({ path: "alive" }), print("up"), Step.Sleep({ millis: 20_000 })))
        yield* provider.start(name, spec)
        yield* Stream.runHead(provider.output(name, spec.id, OutputPosition.start))
        yield* provider.kill(name, spec.id)
        const { end } = yield* provider.wait(name, spec.id)
        assert.deepStrictEqual([end?.by, end?.exitCode], ["killed", 137])
        const size = Effect.map(listed(name, "."), ({ files }) => files[0]?.size)
        const before = yield* size
        yield* Effect.sleep("150 millis")
        assert.strictEqual(yield* size, before)
      })
    ),

  "kill leaves a command that ended by itself as it is": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const { id } = yield* ran(name, compile(Step.Exit({ code: 5 })))
        yield* provider.kill(name, id)
        const { end } = yield* provider.command(name, id)
        assert.deepStrictEqual([end?.by, end?.exitCode], ["exited", 5])
      })
    ),

  "a command whose sandbox is stopped is lost, and its output is not": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const spec = commandSpec(compile(print("before"), Step.Sleep({ millis: 20_000 })))
        yield* provider.start(name, spec)
        yield* Stream.runHead(provider.output(name, spec.id, OutputPosition.start))
        yield* provider.stop(name)
        const { end } = yield* provider.wait(name, spec.id)
        assert.strictEqual(end?.by, "lost")
        assert.strictEqual((yield* printed(name, spec.id)).stdout, "before")
      })
    ),

  "a command whose sandbox stops, is removed or snapshotted as it starts never ends by itself": (compile) =>
    Effect.forEach(
      Object.entries(endings).flatMap(([way, ending]) => momentsOfStart.map((moment) => ({ way, ending, moment }))),
      ({ ending, moment, way }, index) =>
        created(
          Effect.fnUntraced(function* (name) {
            const provider = yield* SandboxProvider
            const spec = commandSpec(compile(print("up"), Step.Sleep({ millis: 20_000 })))
            const [started] = yield* moment(Effect.result(provider.start(name, spec)), ending(provider, name))
            const outcome = yield* outcomeOf(name, spec, started, way)
            const where = `${way}, moment ${index % momentsOfStart.length}: ${outcome}`
            assert.isTrue(outcomes[way]!.includes(outcome ?? "runs"), where)
            if (outcome !== "lost" && outcome !== "killed") return
            const { stderr, stdout } = yield* printed(name, spec.id)
            assert.strictEqual(stderr, "", where)
            assert.include(["", "up"], stdout, where)
          })
        ),
      { concurrency: 6, discard: true }
    ),

  "a command that is killed as it starts ends as killed, and nothing of it goes on": (compile) =>
    Effect.forEach(
      momentsOfStart,
      (moment) =>
        created(
          Effect.fnUntraced(function* (name) {
            const provider = yield* SandboxProvider
            const spec = commandSpec(compile(Step.Append({ path: "ran", text: "x" }), Step.Sleep({ millis: 20_000 })))
            const kill = Effect.retry(provider.kill(name, spec.id), {
              while: ({ _tag }) => _tag === "CommandNotFound",
              schedule: Schedule.spaced("2 millis")
            })
            yield* moment(provider.start(name, spec), kill)
            const { end } = yield* provider.wait(name, spec.id)
            assert.strictEqual(end?.by, "killed")
            assert.deepStrictEqual(yield* printed(name, spec.id), { stdout: "", stderr: "" })
            assert.strictEqual((yield* provider.start(name, spec)).end?.by, "killed")
          })
        ),
      { concurrency: momentsOfStart.length, discard: true }
    ),

  "a command whose time is over as it starts is timed out, and prints nothing that it did not": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        for (const millis of [1, 10, 50]) {
          const late = compile(print("up"), Step.Sleep({ millis: 20_000 }))
          const { end, stderr, stdout } = yield* ran(name, late, { timeout: Duration.millis(millis) })
          assert.deepStrictEqual([end.by, stderr], ["timedOut", ""], `${millis} ms`)
          assert.include(["", "up"], stdout)
        }
      })
    ),

  "a file is read as it was written, whatever its bytes": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const bytes = Uint8Array.from({ length: 300_000 }, (_, index) => (index * 7919) % 256)
        const pieces = Stream.make(bytes.subarray(0, 1000), bytes.subarray(1000))
        assert.strictEqual(yield* provider.writeFile(name, path("deep/er/file with spaces"), pieces), bytes.length)
        const read = yield* Stream.runCollect(provider.readFile(name, path("deep/er/file with spaces")))
        assert.deepStrictEqual(Buffer.concat(read), Buffer.from(bytes))
      })
    ),

  "a command sees what was written, and what it writes is read": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "in", "hello")
        const { stdout } = yield* ran(
          name,
          compile(Step.PrintFile({ path: "in" }), Step.Append({ path: "out", text: "bye" }))
        )
        assert.deepStrictEqual([stdout, yield* fileText(name, "out")], ["hello", "bye"])
      })
    ),

  "a file whose content breaks off stays as it was": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        yield* written(name, "file", "old")
        const broken = Stream.concat(Stream.make(utf8("new")), Stream.fail("broken off" as const))
        assert.strictEqual(yield* Effect.flip(provider.writeFile(name, path("file"), broken)), "broken off")
        yield* Effect.flip(provider.writeFile(name, path("other"), broken))
        assert.strictEqual(yield* fileText(name, "file"), "old")
        const { files } = yield* listed(name, ".", everything)
        assert.deepStrictEqual(
          files.map((file) => file.path),
          ["file"]
        )
      })
    ),

  "a file that is overwritten keeps its mode, unless another is asked for": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const write = (file: string, mode?: string) =>
          provider.writeFile(
            name,
            path(file),
            Stream.make(utf8("x")),
            mode === undefined ? {} : { mode: FileMode.make(mode) }
          )
        yield* write("private", "600")
        yield* write("private")
        yield* write("run", "0755")
        yield* write("run")
        yield* write("changed", "755")
        yield* write("changed", "0640")
        yield* write("new")
        assert.deepStrictEqual(
          (yield* listed(name, ".")).files.map(({ mode, path }) => `${mode} ${path}`),
          ["0640 changed", "0644 new", "0600 private", "0755 run"]
        )
      })
    ),

  "a link is listed with where it leads": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "file", "x")
        yield* ran(name, compile(Step.Link({ path: "link", target: "nowhere/at all" })))
        const { files } = yield* listed(name, ".")
        assert.deepStrictEqual(
          files.map(({ path, target, type }) => [path, type, target]),
          [
            ["file", "file", undefined],
            ["link", "link", "nowhere/at all"]
          ]
        )
      })
    ),

  "a write follows a link to its file, and the link stays": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "dir/file", "old")
        yield* ran(
          name,
          compile(
            Step.Link({ path: "link", target: "dir/file" }),
            Step.Link({ path: "dir/second", target: "../link" }),
            Step.Link({ path: "to-dir", target: "dir" })
          )
        )
        yield* written(name, "dir/second", "new")
        yield* written(name, "to-dir/beside", "more")
        assert.strictEqual(yield* fileText(name, "dir/file"), "new")
        assert.strictEqual(yield* fileText(name, "link"), "new")
        assert.strictEqual(yield* fileText(name, "dir/beside"), "more")
        const { files } = yield* listed(name, ".", everything)
        assert.deepStrictEqual(
          files.map(({ path, type }) => `${path} ${type}`),
          ["dir directory", "dir/beside file", "dir/file file", "dir/second link", "link link", "to-dir link"]
        )
      })
    ),

  "a link that leads to no file is neither written through nor replaced": (compile) =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "dir/file", "x")
        yield* ran(
          name,
          compile(
            Step.Link({ path: "dangling", target: "nothing" }),
            Step.Link({ path: "loop", target: "loop" }),
            Step.Link({ path: "to-dir", target: "dir" })
          )
        )
        assert.strictEqual(yield* tagOf(written(name, "dangling", "x")), "FileRefused")
        assert.strictEqual(yield* tagOf(written(name, "loop", "x")), "FileRefused")
        assert.strictEqual(yield* tagOf(written(name, "to-dir", "x")), "FileNotFound")
        for (const link of ["dangling", "loop", "to-dir"]) {
          assert.strictEqual(yield* tagOf(fileText(name, link)), "FileNotFound", link)
        }
        const { files } = yield* listed(name, ".")
        assert.deepStrictEqual(
          files.map(({ path, type }) => `${path} ${type}`),
          ["dangling link", "dir directory", "loop link", "to-dir link"]
        )
      })
    ),

  "a directory is listed by path, as many levels down as are asked for": () =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "b", "12345")
        yield* written(name, "a/deep/c", "1")
        yield* written(name, "a-b", "1")
        const list = (depth: number) =>
          Effect.map(listed(name, ".", depth), ({ files }) =>
            files.map(({ path, size, type }) => (type === "file" ? `${path} ${size}` : `${path} ${type}`))
          )
        assert.deepStrictEqual(yield* list(1), ["a directory", "a-b 1", "b 5"])
        assert.deepStrictEqual(yield* list(2), ["a directory", "a-b 1", "a/deep directory", "b 5"])
        assert.deepStrictEqual(yield* list(64), ["a directory", "a-b 1", "a/deep directory", "a/deep/c 1", "b 5"])
        const { files: below } = yield* listed(name, "a")
        assert.deepStrictEqual(
          below.map((file) => file.path),
          ["deep"]
        )
        const file = (yield* listed(name, ".")).files.at(-1)!
        assert.isBelow(Math.abs(file.modifiedAt.epochMilliseconds - (yield* DateTime.now).epochMilliseconds), 60_000)
      })
    ),

  "pages of a listing follow each other and have every entry once, whatever is added before their place": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const files = ["a/1", "a/2/x", "a/3", "a.b", "b/y", "b/z", "c"]
        for (const file of files) yield* written(name, file, "x")
        const all = ["a", "a.b", "a/1", "a/2", "a/2/x", "a/3", "b", "b/y", "b/z", "c"]
        for (const limit of [1, 2, 3, all.length, 1000]) {
          const found: Array<string> = []
          let after: string | undefined
          do {
            const page = yield* provider.listFiles(name, path("."), { depth: everything, limit, after })
            assert.isAtMost(page.files.length, limit)
            found.push(...page.files.map((file) => file.path))
            if (page.next !== null) assert.strictEqual(page.next, found.at(-1))
            after = page.next ?? undefined
          } while (after !== undefined)
          assert.deepStrictEqual(found, all, `${limit} at once`)
        }
        const pageAfter = (after: string) =>
          Effect.map(provider.listFiles(name, path("."), { depth: everything, limit: 2, after }), (page) =>
            page.files.map((file) => file.path)
          )
        yield* written(name, "a/0", "x")
        assert.deepStrictEqual(yield* pageAfter("a/1"), ["a/2", "a/2/x"])
        // The entry that the page before ended with may be gone.
        assert.deepStrictEqual(yield* pageAfter("a/2/x/none"), ["a/3", "b"])
        assert.deepStrictEqual(yield* pageAfter("zzz"), [])
      })
    ),

  "what is not a file is not read, and what is not a directory not listed": () =>
    created(
      Effect.fnUntraced(function* (name) {
        yield* written(name, "dir/file", "")
        assert.strictEqual(yield* tagOf(fileText(name, "nothing")), "FileNotFound")
        assert.strictEqual(yield* tagOf(fileText(name, "dir")), "FileNotFound")
        assert.strictEqual(yield* tagOf(written(name, "dir", "x")), "FileNotFound")
        assert.strictEqual(yield* tagOf(written(name, "dir/file/below", "x")), "FileNotFound")
        const list = (at: string) => listed(name, at)
        assert.strictEqual(yield* tagOf(list("nothing")), "FileNotFound")
        assert.strictEqual(yield* tagOf(list("dir/file")), "FileNotFound")
      })
    ),

  "a file's name may have 255 bytes, and where nothing can stand nothing is written": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const longest = "é".repeat(127) + "x"
        yield* written(name, longest, "kept")
        assert.strictEqual(yield* fileText(name, longest), "kept")
        for (const refused of [`${longest}x`, `${longest}x/file`, "new/", "new/.", `${longest}/`]) {
          assert.strictEqual(yield* tagOf(written(name, refused, "x")), "FileRefused", refused)
        }
        const { files } = yield* listed(name, ".", everything)
        assert.deepStrictEqual(
          files.map((file) => file.path),
          [longest]
        )
      })
    ),

  "what listens on a declared port is reached from outside: bytes go both ways, and either side may end first": (
    compile
  ) =>
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

  "what is sent arrives before the sender is done": (compile) =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const connection = yield* reached(compile, name, port, "heard: ")
        yield* connection.send(utf8("GET / HTTP/1.1\r\n"))
        yield* connection.send(utf8("\r\n"))
        assert.strictEqual((yield* received(connection)).toString(), "heard: GET / HTTP/1.1\r\n\r\n")
      })
    ),

  "a port that was not declared, or that nobody listens on, is closed": (compile) =>
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

  "ports are kept when a sandbox is woken": (compile) =>
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

  "a connection breaks when its sandbox stops": (compile) =>
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

  "a connection is closed with its scope": (compile) =>
    withPort(
      Effect.fnUntraced(function* (name, port) {
        const connection = yield* Effect.scoped(reached(compile, name, port, "never said"))
        assert.strictEqual(yield* tagOf(connection.send(utf8("too late"))), "PortClosed")
        assert.strictEqual(yield* tagOf(received(connection)), "PortClosed")
      })
    ),

  "a connection never reaches another sandbox's port, or the host's, unless they all listen on one loopback": (
    compile
  ) =>
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
    ),

  "a sandbox that was to reach its registry has npm": () =>
    created(
      Effect.fnUntraced(function* (name) {
        const provider = yield* SandboxProvider
        const asked = Effect.map(ran(name, { command: "npm", args: ["--version"] }), ({ end, stdout }) => {
          assert.deepStrictEqual([end.exitCode, /^\d+\.\d+\.\d+\n$/.test(stdout)], [0, true])
        })
        yield* asked
        yield* provider.stop(name)
        yield* provider.resume(name, Duration.minutes(5))
        yield* asked
      }),
      { registry: true }
    )
}

/** Holds a provider to its promises. Time is real, since processes know no other. */
export const contract = <E>(subject: string, layer: Layer.Layer<SandboxProvider, E>, compile: Compile) =>
  it.layer(layer, { timeout: "60 seconds", excludeTestServices: true })(`SandboxProvider (${subject})`, (it) => {
    for (const [name, promise] of Object.entries(promises)) it.effect(name, () => promise(compile))
  })
