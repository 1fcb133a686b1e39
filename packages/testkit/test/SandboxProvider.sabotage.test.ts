import { CommandEnd, OutputPosition } from "@castellan/domain/sandbox/Command.ts"
import { Port, type PortConnection } from "@castellan/domain/sandbox/Port.ts"
import { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import { FileMode, SandboxFile, SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { type CommandSpec, PortClosed, SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { topics } from "@castellan/testkit/contracts/SandboxProvider/contract.ts"
import * as MemorySandbox from "../src/fakes/sandbox/MemorySandbox.ts"
import { asSteps } from "@castellan/testkit/Program.ts"
import { allClauses } from "@castellan/testkit/contracts/contract.ts"
import { type Mutant, sabotage } from "@castellan/testkit/sabotage.ts"
import { DateTime, Duration, Effect, Option, Scope, Stream } from "effect"

type Provider = SandboxProvider["Service"]

const succeed = () => Effect.void as Effect.Effect<never>

/** Ends every command as told. */
const ending =
  (end: Partial<CommandEnd>): Mutant<Provider> =>
  (real) => ({
    wait: (name, id) =>
      Effect.map(real.wait(name, id), (started) => ({ ...started, end: new CommandEnd({ ...started.end!, ...end }) }))
  })

/** Starts something else than it was asked to. */
const starting =
  (change: (spec: CommandSpec) => Partial<CommandSpec>): Mutant<Provider> =>
  (real) => ({ start: (name, spec) => real.start(name, { ...spec, ...change(spec) }) })

const forgetfulStop: Mutant<Provider> = (real) => ({
  stop: (name) => Effect.andThen(Effect.ignore(real.remove(name)), Effect.void)
})

const wakingFind: Mutant<Provider> = (real) => ({
  find: (name) => Effect.andThen(Effect.ignore(real.resume(name, Duration.minutes(1))), real.find(name))
})

/** Never knows a sandbox, and never says so. */
const indifferent: Mutant<Provider> = () => ({
  resume: succeed,
  extend: succeed,
  snapshot: succeed,
  snapshots: succeed,
  start: succeed,
  command: succeed,
  wait: succeed,
  kill: succeed,
  output: () => Stream.empty,
  readFile: () => Stream.empty,
  writeFile: () => Effect.succeed(0),
  listFiles: () => Effect.succeed({ files: [], next: null }),
  connect: succeed
})

/** Gives connections that are broken in some respect. */
const connecting =
  (change: (real: PortConnection) => Partial<PortConnection>): Mutant<Provider> =>
  (real) => ({
    connect: (name, port) => Effect.map(real.connect(name, port), (one) => ({ ...one, ...change(one) }))
  })

const upperCase: Mutant<Provider> = (real) => ({
  output: (name, id, from) =>
    Stream.map(real.output(name, id, from), (piece) => ({ ...piece, bytes: piece.bytes.map((byte) => byte ^ 0x20) }))
})

const fromTheStart: Mutant<Provider> = (real) => ({
  output: (name, id) => real.output(name, id, OutputPosition.start)
})

const mutants: Record<string, Mutant<Provider>> = {
  "a new sandbox runs, until its lifetime is over": (real) => ({
    create: (spec) => real.create({ ...spec, lifetime: Duration.hours(1) })
  }),
  "creating a name twice gives the first sandbox back, with its files": (real) => ({
    create: (spec) => Effect.andThen(Effect.ignore(real.remove(spec.name)), real.create(spec))
  }),
  "creating one name many times at once makes one sandbox": (real) => {
    let made = 0
    return {
      create: (spec) =>
        Effect.map(real.create(spec), (sandbox) => new Sandbox({ ...sandbox, createdAt: DateTime.makeUnsafe(made++) }))
    }
  },
  "a sandbox that stopped is given back by create as it is, and not woken": (real) => ({
    create: (spec) => Effect.andThen(real.create(spec), Effect.orDie(real.resume(spec.name, spec.lifetime)))
  }),
  "find gives the sandbox of a name, and none where there is none": () => ({
    find: () => Effect.succeed(Option.none())
  }),
  "finding a stopped sandbox does not wake it": wakingFind,
  "findMany gives those of the names that exist": (real) => ({
    findMany: (names) => Effect.map(real.findMany(names), (found) => found.slice(1))
  }),
  "stop ends what runs and keeps the files for resume": forgetfulStop,
  "resume leaves a running sandbox as it is": (real) => ({
    resume: (name, lifetime) => Effect.andThen(real.stop(name), real.resume(name, lifetime))
  }),
  "each run of a sandbox is an incarnation of its own, and all who tell of it tell the same": (real) => ({
    resume: (name, lifetime) =>
      Effect.map(real.resume(name, lifetime), (sandbox) => new Sandbox({ ...sandbox, incarnation: "the same" }))
  }),
  "a stop that is meant for one run stops no other, however late it arrives": (real) => ({
    stop: (name) => real.stop(name)
  }),
  // Looks first and stops then, as two steps.
  "a stop that is meant for the run before never stops the one that begins meanwhile": (real) => ({
    stop: (name, only) =>
      Effect.flatMap(real.find(name), (found) =>
        Option.exists(found, ({ incarnation }) => only === undefined || incarnation === only.incarnation)
          ? Effect.andThen(Effect.sleep("1 millis"), real.stop(name))
          : Effect.void
      )
  }),
  "stop succeeds for a sandbox that is stopped or gone": (real) => ({
    stop: (name) =>
      Effect.flatMap(real.find(name), (found) => (Option.isNone(found) ? Effect.die("gone") : real.stop(name)))
  }),
  "remove forgets the sandbox and its files, and may be repeated": (real) => ({ remove: real.stop }),
  "extend moves the end further away": (real) => ({
    extend: (name, by) => real.extend(name, Duration.divideUnsafe(by, 1000))
  }),
  "a sandbox boots from a snapshot with the files of that moment": (real) => ({
    create: (spec) => real.create({ ...spec, from: Option.none() })
  }),
  "what is written after a snapshot, by its source or by its children, is not in it": (real) => ({
    create: (spec) => {
      const writes = Stream.make(new TextEncoder().encode("shared"))
      return Effect.tap(real.create(spec), () =>
        Option.isSome(spec.from) ? Effect.ignore(real.writeFile(spec.name, "file" as never, writes)) : Effect.void
      )
    }
  }),
  "a snapshot stops its source only where the provider says so": (real) => ({
    supports: { ...real.supports, snapshotStops: true }
  }),
  "the snapshots of a sandbox are known for as long as they exist, also once it is removed": () => ({
    snapshots: () => Effect.succeed([])
  }),
  "no sandbox boots from a snapshot that was removed or never was, and those that did live on": () => ({
    removeSnapshot: () => Effect.void
  }),
  "an unknown sandbox is gone, whatever is asked of it": indifferent,
  "a stopped sandbox does nothing that needs it running": indifferent,
  "a command nobody started is not found": indifferent,
  "a sandbox that was made from a snapshot knows nothing of the commands of its source": (real) => {
    const names: Array<SandboxName> = []
    return {
      create: (spec) => Effect.tap(real.create(spec), () => Effect.sync(() => void names.push(spec.name))),
      command: (_, id) => Effect.suspend(() => real.command(names[0]!, id))
    }
  },
  "a command that has ended can be forgotten, and one that runs can't": () => ({ forget: succeed }),
  "starting a command twice runs it once": (real) => {
    let started = 0
    return { start: (name, spec) => real.start(name, { ...spec, id: `${spec.id}-${started++}` as typeof spec.id }) }
  },
  "arguments reach the program as they are": starting(({ args }) => ({
    args: args.flatMap((arg) => arg.split(" ")).filter(Boolean)
  })),
  "a command ends with what its program returned": ending({ exitCode: 0 }),
  "a program that can't be run ends as unstarted with the reason, and nothing is printed": ending({ by: "exited" }),
  "a command whose directory can't be entered ends as unstarted with the reason, and nothing is printed": starting(
    () => ({ cwd: null })
  ),
  "a command runs in the home directory, or where it is told to": starting(() => ({ cwd: "/" })),
  "a command has the variables it is given": starting(() => ({ env: {} })),
  "the two streams of output are kept apart, to the byte": (real) => ({
    output: (name, id, from) =>
      Stream.map(real.output(name, id, from), (piece) => ({ ...piece, stream: "stdout" as const }))
  }),
  "output can be read again, from any position": fromTheStart,
  "every piece of output tells where to go on": (real) => ({
    output: (name, id, from) =>
      Stream.map(real.output(name, id, from), (piece) => ({ ...piece, next: OutputPosition.start }))
  }),
  "a stream whose position lies beyond its end gives nothing": fromTheStart,
  "output can be read while its command still runs, and ends with it": (real) => ({
    output: (name, id, from) => Stream.unwrap(Effect.as(real.wait(name, id), real.output(name, id, from)))
  }),
  "output beyond what is kept is dropped, and its command goes on to its end": (real) => ({
    supports: { ...real.supports, outputKept: real.supports.outputKept / 2 }
  }),
  "a command has ended when its program has, whatever it left behind": (real) => ({
    wait: (name, id) => Effect.andThen(Effect.sleep("1 hour"), real.wait(name, id))
  }),
  "a command is killed at its deadline": starting(() => ({ timeout: Duration.hours(1) })),
  "kill ends a command and every process it started": () => ({ kill: () => Effect.void }),
  "kill leaves a command that ended by itself as it is": (real) => ({
    command: (name, id) =>
      Effect.map(real.command(name, id), (started) => ({
        ...started,
        end: started.end && new CommandEnd({ ...started.end, by: "killed" })
      }))
  }),
  "a command whose sandbox is stopped is lost, and its output is not": ending({ by: "exited" }),
  "a command whose sandbox stops, is removed or snapshotted as it starts never ends by itself": ending({
    by: "exited",
    exitCode: 1
  }),
  // Knows nothing of a command until it has begun.
  "a command that is killed as it starts ends as killed, and nothing of it goes on": (real) => ({
    kill: (name, id) => Effect.asVoid(real.command(name, id))
  }),
  "a command whose time is over as it starts is timed out, and prints nothing that it did not": ending({
    by: "killed"
  }),
  "a file is read as it was written, whatever its bytes": (real) => ({
    readFile: (name, path) => real.readFile(name, path).pipe(Stream.decodeText(), Stream.encodeText)
  }),
  "a command sees what was written, and what it writes is read": upperCase,
  "a file whose content breaks off stays as it was": (real) => ({
    writeFile: (name, path, content) =>
      Stream.runFoldEffect(
        content,
        () => 0,
        (size, chunk) => Effect.map(real.writeFile(name, path, Stream.make(chunk)), (written) => size + written)
      )
  }),
  "a file that is overwritten keeps its mode, unless another is asked for": (real) => ({
    writeFile: (name, path, content, options) =>
      real.writeFile(name, path, content, { mode: options?.mode ?? FileMode.make("0644") })
  }),
  "a link is listed with where it leads": (real) => ({
    listFiles: (name, path, options) =>
      Effect.map(real.listFiles(name, path, options), ({ files, next }) => ({
        next,
        files: files.map(
          ({ mode, modifiedAt, path, size, type }) => new SandboxFile({ mode, modifiedAt, path, size, type })
        )
      }))
  }),
  "a write follows a link to its file, and the link stays": (real) => ({
    writeFile: (name, path, content) => real.writeFile(name, SandboxPath.make(`${path}.new`), content)
  }),
  "a link that leads to no file is neither written through nor replaced": (real) => ({
    writeFile: (name, path, content) =>
      Effect.catchTag(real.writeFile(name, path, content), "FileRefused", () => Effect.succeed(1))
  }),
  "a directory is listed by path, as many levels down as are asked for": (real) => ({
    listFiles: (name, path, page) => real.listFiles(name, path, { ...page, depth: 64 })
  }),
  // Goes on at a number of entries, and not after a path.
  "pages of a listing follow each other and have every entry once, whatever is added before their place": (real) => ({
    listFiles: (name, path, { after, depth, limit }) =>
      Effect.map(real.listFiles(name, path, { depth, limit: 1000 }), ({ files }) => {
        const begin = after === undefined ? 0 : files.findIndex((file) => file.path === after) + 1
        const page = files.slice(begin, begin + limit)
        return { files: page, next: begin + limit < files.length ? page.at(-1)!.path : null }
      })
  }),
  "what is not a file is not read, and what is not a directory not listed": (real) => ({
    listFiles: (name, path, options) =>
      Effect.catchTag(real.listFiles(name, path, options), "FileNotFound", () =>
        Effect.succeed({ files: [], next: null })
      )
  }),
  "a file's name may have 255 bytes, and where nothing can stand nothing is written": (real) => ({
    writeFile: (name, path, content) => real.writeFile(name, path.replace(/\/\.?$/, "") as typeof path, content)
  }),
  "what listens on a declared port is reached from outside: bytes go both ways, and either side may end first":
    connecting((real) => ({ incoming: real.incoming.pipe(Stream.decodeText(), Stream.encodeText) })),
  "what is sent arrives before the sender is done": connecting((real) => {
    const held: Array<Uint8Array> = []
    return {
      send: (bytes) => Effect.sync(() => void held.push(bytes)),
      end: Effect.andThen(Effect.ignore(real.send(Buffer.concat(held))), real.end)
    }
  }),
  "a port that was not declared, or that nobody listens on, is closed": (real) => ({
    create: (spec) => real.create({ ...spec, ports: (spec.ports ?? []).flatMap((port) => [port, Port.make(port + 1)]) })
  }),
  "ports are kept when a sandbox is woken": (real) => {
    const woken = new Set<string>()
    return {
      resume: (name, lifetime) =>
        Effect.tap(real.resume(name, lifetime), () => Effect.sync(() => void woken.add(name))),
      connect: (name, port) =>
        woken.has(name) ? Effect.fail(new PortClosed({ name, port })) : real.connect(name, port)
    }
  },
  "connecting to a sandbox that does not run says so, and wakes none": (real) => ({
    connect: (name, port) =>
      Effect.andThen(Effect.ignore(real.resume(name, Duration.minutes(1))), real.connect(name, port))
  }),
  "a connection breaks when its sandbox stops": connecting((real) => ({
    incoming: Stream.catch(real.incoming, () => Stream.empty)
  })),
  "a connection is closed with its scope": (real) => ({
    connect: (name, port) => Scope.provide(real.connect(name, port), Scope.makeUnsafe())
  }),
  "a connection never reaches another sandbox's port, or the host's, unless they all listen on one loopback": (
    real
  ) => {
    const names: Array<SandboxName> = []
    return {
      create: (spec) => Effect.tap(real.create(spec), () => Effect.sync(() => void names.push(spec.name))),
      connect: (_, port) => Effect.suspend(() => real.connect(names[0]!, port))
    }
  },
  "a sandbox that was to reach its registry has npm": (real) => ({
    create: (spec) => real.create({ ...spec, registry: false })
  })
}

sabotage(SandboxProvider, MemorySandbox.layer, allClauses(topics(asSteps)), mutants)
