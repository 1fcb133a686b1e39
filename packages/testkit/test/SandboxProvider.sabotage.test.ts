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

/** Changes how commands end. */
const ending =
  (end: Partial<CommandEnd>): Mutant<Provider> =>
  (real) => ({
    wait: (name, id) =>
      Effect.map(real.wait(name, id), (started) => ({ ...started, end: new CommandEnd({ ...started.end!, ...end }) }))
  })

/** Changes the commands that are started. */
const starting =
  (change: (spec: CommandSpec) => Partial<CommandSpec>): Mutant<Provider> =>
  (real) => ({ start: (name, spec) => real.start(name, { ...spec, ...change(spec) }) })

const forgetfulStop: Mutant<Provider> = (real) => ({
  stop: (name) => Effect.andThen(Effect.ignore(real.remove(name)), Effect.void)
})

const wakingFind: Mutant<Provider> = (real) => ({
  find: (name) => Effect.andThen(Effect.ignore(real.resume(name, Duration.minutes(1))), real.find(name))
})

/** Succeeds for unknown sandboxes and commands. */
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

/** Changes connections. */
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
  "a new sandbox runs and expires after its lifetime": (real) => ({
    create: (spec) => real.create({ ...spec, lifetime: Duration.hours(1) })
  }),
  "creating a name twice returns the first sandbox with its files": (real) => ({
    create: (spec) => Effect.andThen(Effect.ignore(real.remove(spec.name)), real.create(spec))
  }),
  "concurrent creates of one name make one sandbox": (real) => {
    let made = 0
    return {
      create: (spec) =>
        Effect.map(real.create(spec), (sandbox) => new Sandbox({ ...sandbox, createdAt: DateTime.makeUnsafe(made++) }))
    }
  },
  "create returns a stopped sandbox without resuming it": (real) => ({
    create: (spec) => Effect.andThen(real.create(spec), Effect.orDie(real.resume(spec.name, spec.lifetime)))
  }),
  "find returns the sandbox with a name, or none": () => ({
    find: () => Effect.succeed(Option.none())
  }),
  "find and findMany do not resume a stopped sandbox": wakingFind,
  "findMany returns the sandboxes that exist": (real) => ({
    findMany: (names) => Effect.map(real.findMany(names), (found) => found.slice(1))
  }),
  "stop ends the sandbox's run and keeps its files for resume": forgetfulStop,
  "resume does not change a running sandbox": (real) => ({
    resume: (name, lifetime) => Effect.andThen(real.stop(name), real.resume(name, lifetime))
  }),
  "each run of a sandbox has its own incarnation, which every operation reports": (real) => ({
    resume: (name, lifetime) =>
      Effect.map(real.resume(name, lifetime), (sandbox) => new Sandbox({ ...sandbox, incarnation: "the same" }))
  }),
  "a stop for one incarnation never stops a later one": (real) => ({
    stop: (name) => real.stop(name)
  }),
  // Checks the incarnation first and stops later.
  "a stop for the previous incarnation that races with resume does not stop the new one": (real) => ({
    stop: (name, only) =>
      Effect.flatMap(real.find(name), (found) =>
        Option.exists(found, ({ incarnation }) => only === undefined || incarnation === only.incarnation)
          ? Effect.andThen(Effect.sleep("1 millis"), real.stop(name))
          : Effect.void
      )
  }),
  "stop succeeds for a sandbox that is stopped or does not exist": (real) => ({
    stop: (name) =>
      Effect.flatMap(real.find(name), (found) => (Option.isNone(found) ? Effect.die("gone") : real.stop(name)))
  }),
  "remove deletes the sandbox with its files, and can be repeated": (real) => ({ remove: real.stop }),
  "extend postpones the expiry by the given duration": (real) => ({
    extend: (name, by) => real.extend(name, Duration.divideUnsafe(by, 1000))
  }),
  "a sandbox created from a snapshot has the files of the snapshot": (real) => ({
    create: (spec) => real.create({ ...spec, from: Option.none() })
  }),
  "a snapshot does not contain what its source or its copies write later": (real) => ({
    create: (spec) => {
      const writes = Stream.make(new TextEncoder().encode("shared"))
      return Effect.tap(real.create(spec), () =>
        Option.isSome(spec.from) ? Effect.ignore(real.writeFile(spec.name, "file" as never, writes)) : Effect.void
      )
    }
  }),
  "a snapshot stops its source only if the provider declares it": (real) => ({
    supports: { ...real.supports, snapshotStops: true }
  }),
  "snapshots lists the existing snapshots of a sandbox, also after the sandbox is removed": () => ({
    snapshots: () => Effect.succeed([])
  }),
  "a sandbox cannot be created from a removed or unknown snapshot, and copies outlive their snapshot": () => ({
    removeSnapshot: () => Effect.void
  }),
  "operations on an unknown sandbox fail with SandboxGone": indifferent,
  "operations that need a running sandbox fail with SandboxNotRunning on a stopped one": indifferent,
  "operations on a command that was not started fail with CommandNotFound": indifferent,
  "a sandbox created from a snapshot has none of the commands of the snapshot's source": (real) => {
    const names: Array<SandboxName> = []
    return {
      create: (spec) => Effect.tap(real.create(spec), () => Effect.sync(() => void names.push(spec.name))),
      command: (_, id) => Effect.suspend(() => real.command(names[0]!, id))
    }
  },
  "forget deletes a command that has ended and does not affect one that runs": () => ({ forget: succeed }),
  "starting a command twice runs it once": (real) => {
    let started = 0
    return { start: (name, spec) => real.start(name, { ...spec, id: `${spec.id}-${started++}` as typeof spec.id }) }
  },
  "arguments reach the program unchanged": starting(({ args }) => ({
    args: args.flatMap((arg) => arg.split(" ")).filter(Boolean)
  })),
  "a command ends with the exit code of its program": ending({ exitCode: 0 }),
  "a command whose program cannot run ends as unstarted with the reason and prints nothing": ending({ by: "exited" }),
  "a command whose working directory cannot be entered ends as unstarted with the reason and prints nothing": starting(
    () => ({ cwd: null })
  ),
  "a command runs in its working directory, which is the home directory by default": starting(() => ({ cwd: "/" })),
  "a command has its environment variables": starting(() => ({ env: {} })),
  "stdout and stderr are separate and keep every byte": (real) => ({
    output: (name, id, from) =>
      Stream.map(real.output(name, id, from), (piece) => ({ ...piece, stream: "stdout" as const }))
  }),
  "output can be read again from any position": fromTheStart,
  "every chunk of output has the position after it": (real) => ({
    output: (name, id, from) =>
      Stream.map(real.output(name, id, from), (piece) => ({ ...piece, next: OutputPosition.start }))
  }),
  "reading a stream from a position beyond its end returns nothing": fromTheStart,
  "output can be read while its command runs, and ends when the command ends": (real) => ({
    output: (name, id, from) => Stream.unwrap(Effect.as(real.wait(name, id), real.output(name, id, from)))
  }),
  "output beyond the kept size is dropped and its command runs to its end": (real) => ({
    supports: { ...real.supports, outputKept: real.supports.outputKept / 2 }
  }),
  "a command ends with its program even if the program leaves processes behind": (real) => ({
    wait: (name, id) => Effect.andThen(Effect.sleep("1 hour"), real.wait(name, id))
  }),
  "a command is killed at its deadline": starting(() => ({ timeout: Duration.hours(1) })),
  "kill ends a command and every process that it started": () => ({ kill: () => Effect.void }),
  "kill does not change a command that has ended": (real) => ({
    command: (name, id) =>
      Effect.map(real.command(name, id), (started) => ({
        ...started,
        end: started.end && new CommandEnd({ ...started.end, by: "killed" })
      }))
  }),
  "a command whose sandbox is stopped ends as lost and keeps its output": ending({ by: "exited" }),
  "a command whose sandbox stops, is removed or is snapshotted during its start never reports an exit of its own":
    ending({
      by: "exited",
      exitCode: 1
    }),
  // Does not kill a command that has not started.
  "a command that is killed during its start ends as killed and has no effect": (real) => ({
    kill: (name, id) => Effect.asVoid(real.command(name, id))
  }),
  "a command whose deadline passes during its start ends as timed out, with no error output": ending({
    by: "killed"
  }),
  "a file is read byte for byte as it was written": (real) => ({
    readFile: (name, path) => real.readFile(name, path).pipe(Stream.decodeText(), Stream.encodeText)
  }),
  "commands and file operations see the same files": upperCase,
  "a file does not change if the stream of its new content fails": (real) => ({
    writeFile: (name, path, content) =>
      Stream.runFoldEffect(
        content,
        () => 0,
        (size, chunk) => Effect.map(real.writeFile(name, path, Stream.make(chunk)), (written) => size + written)
      )
  }),
  "overwriting a file keeps its mode unless the caller sets one": (real) => ({
    writeFile: (name, path, content, options) =>
      real.writeFile(name, path, content, { mode: options?.mode ?? FileMode.make("0644") })
  }),
  "a symbolic link is listed with its target": (real) => ({
    listFiles: (name, path, options) =>
      Effect.map(real.listFiles(name, path, options), ({ files, next }) => ({
        next,
        files: files.map(
          ({ mode, modifiedAt, path, size, type }) => new SandboxFile({ mode, modifiedAt, path, size, type })
        )
      }))
  }),
  "a write follows a symbolic link to its file and keeps the link": (real) => ({
    writeFile: (name, path, content) => real.writeFile(name, SandboxPath.make(`${path}.new`), content)
  }),
  "a write to a symbolic link that leads to no file fails and keeps the link": (real) => ({
    writeFile: (name, path, content) =>
      Effect.catchTag(real.writeFile(name, path, content), "FileRefused", () => Effect.succeed(1))
  }),
  "a listing is in the order of paths and as deep as the caller asks": (real) => ({
    listFiles: (name, path, page) => real.listFiles(name, path, { ...page, depth: 64 })
  }),
  // Continues after a number of entries, not after a path.
  "pages of a listing have every entry once even if files are added before the cursor": (real) => ({
    listFiles: (name, path, { after, depth, limit }) =>
      Effect.map(real.listFiles(name, path, { depth, limit: 1000 }), ({ files }) => {
        const begin = after === undefined ? 0 : files.findIndex((file) => file.path === after) + 1
        const page = files.slice(begin, begin + limit)
        return { files: page, next: begin + limit < files.length ? page.at(-1)!.path : null }
      })
  }),
  "reading a directory, listing a file and using a missing path fail with FileNotFound": (real) => ({
    listFiles: (name, path, options) =>
      Effect.catchTag(real.listFiles(name, path, options), "FileNotFound", () =>
        Effect.succeed({ files: [], next: null })
      )
  }),
  "a file name has up to 255 bytes, and a write to an impossible path fails with FileRefused": (real) => ({
    writeFile: (name, path, content) => real.writeFile(name, path.replace(/\/\.?$/, "") as typeof path, content)
  }),
  "a connection to a declared port carries bytes both ways, and either side can end first": connecting((real) => ({
    incoming: real.incoming.pipe(Stream.decodeText(), Stream.encodeText)
  })),
  "sent bytes arrive before the sender ends": connecting((real) => {
    const held: Array<Uint8Array> = []
    return {
      send: (bytes) => Effect.sync(() => void held.push(bytes)),
      end: Effect.andThen(Effect.ignore(real.send(Buffer.concat(held))), real.end)
    }
  }),
  "connecting to a port that is not declared or has no listener fails with PortClosed": (real) => ({
    create: (spec) => real.create({ ...spec, ports: (spec.ports ?? []).flatMap((port) => [port, Port.make(port + 1)]) })
  }),
  "a resumed sandbox keeps its declared ports": (real) => {
    const woken = new Set<string>()
    return {
      resume: (name, lifetime) =>
        Effect.tap(real.resume(name, lifetime), () => Effect.sync(() => void woken.add(name))),
      connect: (name, port) =>
        woken.has(name) ? Effect.fail(new PortClosed({ name, port })) : real.connect(name, port)
    }
  },
  "connecting to a sandbox that does not run fails and does not resume it": (real) => ({
    connect: (name, port) =>
      Effect.andThen(Effect.ignore(real.resume(name, Duration.minutes(1))), real.connect(name, port))
  }),
  "a connection fails when its sandbox stops": connecting((real) => ({
    incoming: Stream.catch(real.incoming, () => Stream.empty)
  })),
  "a connection closes with its scope": (real) => ({
    connect: (name, port) => Scope.provide(real.connect(name, port), Scope.makeUnsafe())
  }),
  "a connection never reaches a port of another sandbox or of the host unless the provider shares ports": (real) => {
    const names: Array<SandboxName> = []
    return {
      create: (spec) => Effect.tap(real.create(spec), () => Effect.sync(() => void names.push(spec.name))),
      connect: (_, port) => Effect.suspend(() => real.connect(names[0]!, port))
    }
  },
  "a sandbox with access to the registry has npm": (real) => ({
    create: (spec) => real.create({ ...spec, registry: false })
  })
}

sabotage(SandboxProvider, MemorySandbox.layer, allClauses(topics(asSteps)), mutants)
