import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { Sandbox, type SandboxStatus } from "@castellan/domain/sandbox/Sandbox.ts"
import { type FileMode, fileModeOf } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Snapshot, SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import {
  CommandNotFound,
  FileNotFound,
  FileRefused,
  PortClosed,
  SandboxGone,
  SandboxNotRunning,
  SandboxProvider,
  SnapshotGone
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Context, DateTime, Deferred, Duration, Effect, FiberMap, Layer, Option, Stream } from "effect"
import { MemoryCommand } from "./MemoryCommand.ts"
import { home, MemoryFiles, refusalOf, resolve } from "./MemoryFiles.ts"
import type { MemoryListener } from "./MemoryListener.ts"
import { execute, type MemoryPrograms } from "./MemoryPrograms.ts"

/** The bytes that a command keeps of each output stream. */
const outputKept = 64 * 1024

/** A mode with four digits. */
const normalized = (mode: FileMode | undefined) => (mode === undefined ? mode : fileModeOf(Number.parseInt(mode, 8)))

interface Machine {
  readonly name: SandboxName
  readonly createdAt: number
  expiresAt: number
  status: SandboxStatus
  incarnation: string
  reason: string | null
  readonly files: MemoryFiles
  hasFiles: boolean
  readonly commands: Map<CommandId, MemoryCommand>
  readonly ports: ReadonlyArray<Port>
  readonly listeners: Map<number, MemoryListener>
  readonly registry: boolean
}

/** A handle for tests on the state of the provider. */
export class MemorySandboxes extends Context.Service<
  MemorySandboxes,
  {
    /** The names of all sandboxes. */
    readonly names: () => ReadonlyArray<SandboxName>
    /** The ids of all snapshots. */
    readonly snapshots: () => ReadonlyArray<SnapshotId>
    /** Loses a sandbox with its files: it stops, and resuming it fails with SandboxGone. */
    readonly lose: (name: SandboxName) => Effect.Effect<void>
    /** The number of calls that the provider received. */
    readonly calls: () => number
  }
>()("testkit/MemorySandboxes") {}

const make = (programs: MemoryPrograms) =>
  Effect.gen(function* () {
    const machines = new Map<SandboxName, Machine>()
    const snapshots = new Map<SnapshotId, { readonly snapshot: Snapshot; readonly files: MemoryFiles }>()
    let taken = 0
    let runs = 0
    const expiries = yield* FiberMap.make<SandboxName>()
    const scope = yield* Effect.scope
    let calls = 0

    const counted = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
      Effect.suspend(() => {
        calls++
        return effect
      })

    const toSandbox = (machine: Machine) =>
      new Sandbox({
        name: machine.name,
        status: machine.status,
        createdAt: DateTime.makeUnsafe(machine.createdAt),
        incarnation: machine.incarnation,
        expiresAt: DateTime.makeUnsafe(machine.expiresAt),
        reason: machine.reason
      })

    const halt = Effect.fnUntraced(function* (machine: Machine, reason: string | null, only = machine.incarnation) {
      if (machine.status !== "running" || machine.incarnation !== only) return
      machine.status = "stopped"
      machine.reason = reason
      const now = yield* Clock.currentTimeMillis
      for (const command of machine.commands.values()) yield* command.terminate("lost", now)
    })

    const expire = Effect.fnUntraced(function* (machine: Machine) {
      const left = machine.expiresAt - (yield* Clock.currentTimeMillis)
      const over = Effect.andThen(Effect.sleep(Math.max(0, left)), halt(machine, "Its time was up"))
      yield* FiberMap.run(expiries, machine.name, over)
    })

    const get = (name: SandboxName) =>
      Effect.suspend(() => {
        const machine = machines.get(name)
        return machine === undefined ? Effect.fail(new SandboxGone({ name })) : Effect.succeed(machine)
      })

    const running = (name: SandboxName) =>
      Effect.flatMap(get(name), (machine) =>
        machine.status === "running"
          ? Effect.succeed(machine)
          : Effect.fail(new SandboxNotRunning({ name, reason: machine.reason }))
      )

    const commandOf = (name: SandboxName, id: CommandId) =>
      Effect.flatMap(get(name), (machine) => {
        const command = machine.commands.get(id)
        return command === undefined ? Effect.fail(new CommandNotFound({ id })) : Effect.succeed(command)
      })

    const provider = SandboxProvider.of({
      supports: { name: "memory", isolation: "none", snapshotStops: false, outputKept, sharesPorts: false },
      find: (name) => counted(Effect.sync(() => Option.map(Option.fromUndefinedOr(machines.get(name)), toSandbox))),
      findMany: (names) =>
        counted(
          Effect.sync(() =>
            names.flatMap((name) => {
              const machine = machines.get(name)
              return machine === undefined ? [] : [toSandbox(machine)]
            })
          )
        ),
      create: Effect.fnUntraced(function* ({ from, lifetime, name, ports = [], registry = false }) {
        const now = yield* Clock.currentTimeMillis
        const known = machines.get(name)
        if (known !== undefined) return toSandbox(known)
        const image = Option.isSome(from) ? snapshots.get(from.value)?.files : new MemoryFiles()
        if (image === undefined) return yield* new SnapshotGone({ id: Option.getOrThrow(from) })
        const files = image.copy()
        const expiresAt = now + Duration.toMillis(lifetime)
        const machine: Machine = {
          name,
          createdAt: now,
          expiresAt,
          status: "running",
          incarnation: `run-${runs++}`,
          reason: null,
          files,
          hasFiles: true,
          commands: new Map(),
          ports,
          listeners: new Map(),
          registry
        }
        machines.set(name, machine)
        yield* expire(machine)
        return toSandbox(machine)
      }, counted),
      resume: Effect.fnUntraced(function* (name, lifetime) {
        const now = yield* Clock.currentTimeMillis
        const machine = yield* get(name)
        if (machine.status === "running") return toSandbox(machine)
        if (!machine.hasFiles) {
          machines.delete(name)
          return yield* new SandboxGone({ name })
        }
        machine.expiresAt = now + Duration.toMillis(lifetime)
        machine.status = "running"
        machine.incarnation = `run-${runs++}`
        machine.reason = null
        yield* expire(machine)
        return toSandbox(machine)
      }, counted),
      stop: Effect.fnUntraced(function* (name, only) {
        const machine = machines.get(name)
        if (machine !== undefined) yield* halt(machine, null, only?.incarnation)
      }, counted),
      remove: Effect.fnUntraced(function* (name) {
        const machine = machines.get(name)
        if (machine === undefined) return
        yield* halt(machine, null)
        machines.delete(name)
        yield* FiberMap.remove(expiries, name)
      }, counted),
      extend: Effect.fnUntraced(function* (name, by) {
        const machine = yield* running(name)
        machine.expiresAt += Duration.toMillis(by)
        yield* expire(machine)
        return toSandbox(machine)
      }, counted),
      snapshot: Effect.fnUntraced(function* (name) {
        const machine = yield* get(name)
        const id = SnapshotId.make(`snap_${taken++}${Math.trunc(yield* Clock.currentTimeMillis)}`)
        const snapshot = new Snapshot({ id, source: name, createdAt: yield* DateTime.now })
        snapshots.set(id, { snapshot, files: machine.files.copy() })
        return snapshot
      }, counted),
      snapshots: (source) =>
        counted(
          Effect.sync(() =>
            [...snapshots.values()].flatMap(({ snapshot }) => (snapshot.source === source ? [snapshot] : []))
          )
        ),
      removeSnapshot: (id) => counted(Effect.sync(() => void snapshots.delete(id))),
      start: Effect.fnUntraced(function* (name, spec) {
        const machine = yield* running(name)
        const known = machine.commands.get(spec.id)
        if (known !== undefined) return known.started
        const command = new MemoryCommand(spec.id, yield* Clock.currentTimeMillis, outputKept)
        machine.commands.set(spec.id, command)
        const life = execute(command, { ...machine, programs }, spec).pipe(
          Effect.timeoutOption(spec.timeout),
          Effect.flatMap((code) =>
            Effect.flatMap(Clock.currentTimeMillis, (now) =>
              Option.isSome(code)
                ? Effect.sync(() => command.finish("exited", code.value, now))
                : command.terminate("timedOut", now)
            )
          ),
          Effect.catch((failure) => Effect.map(Clock.currentTimeMillis, (now) => command.refuse(failure, now)))
        )
        command.own(yield* Effect.forkIn(life, scope, { startImmediately: true }))
        return command.started
      }, counted),
      command: (name, id) => counted(Effect.map(commandOf(name, id), (command) => command.started)),
      wait: (name, id) =>
        counted(
          Effect.flatMap(commandOf(name, id), (command) =>
            Effect.as(Deferred.await(command.ended), command).pipe(Effect.map((ended) => ended.started))
          )
        ),
      output: (name, id, from) =>
        Stream.unwrap(counted(Effect.map(commandOf(name, id), (command) => command.read(from)))),
      kill: Effect.fnUntraced(function* (name, id) {
        const command = yield* commandOf(name, id)
        yield* command.terminate("killed", yield* Clock.currentTimeMillis)
      }, counted),
      forget: (name, id) =>
        counted(
          Effect.sync(() => {
            const machine = machines.get(name)
            if (machine?.commands.get(id)?.end !== undefined) machine.commands.delete(id)
          })
        ),
      readFile: (name, path) =>
        Stream.unwrap(
          counted(
            Effect.flatMap(running(name), ({ files }) => {
              const bytes = files.read(resolve(home, path))
              return bytes === undefined ? Effect.fail(new FileNotFound({ path })) : Effect.succeed(Stream.make(bytes))
            })
          )
        ),
      writeFile: (name, path, content, options) =>
        counted(
          Effect.gen(function* () {
            const { files } = yield* running(name)
            const at = resolve(home, path)
            if (!files.isDirectory(at) && files.isDangling(at)) {
              return yield* new FileRefused({ path, reason: "It is a link that leads to no file" })
            }
            if (!files.canHoldFile(at)) return yield* new FileNotFound({ path })
            const reason = refusalOf(path)
            if (reason !== undefined) return yield* new FileRefused({ path, reason })
            const bytes = Uint8Array.from(Buffer.concat([...(yield* Stream.runCollect(content))]))
            files.write(at, bytes, yield* Clock.currentTimeMillis, normalized(options?.mode))
            return bytes.length
          })
        ),
      listFiles: Effect.fnUntraced(function* (name, path, { after = "", depth, limit }) {
        const { files } = yield* running(name)
        const at = resolve(home, path)
        if (!files.isDirectory(at)) return yield* new FileNotFound({ path })
        const rest = files.list(at, depth).filter((file) => file.path > after)
        const page = rest.slice(0, limit)
        return { files: page, next: rest.length > page.length ? page.at(-1)!.path : null }
      }, counted),
      connect: Effect.fnUntraced(function* (name, port) {
        const { listeners, ports } = yield* running(name)
        const closed = new PortClosed({ name, port })
        const listener = ports.includes(port) ? listeners.get(port) : undefined
        return listener === undefined ? yield* closed : yield* listener.connect(`localhost:${port}`, closed)
      }, counted)
    })

    const handle = MemorySandboxes.of({
      names: () => [...machines.keys()],
      snapshots: () => [...snapshots.keys()],
      lose: Effect.fnUntraced(function* (name) {
        const machine = machines.get(name)
        if (machine === undefined) return
        machine.hasFiles = false
        yield* halt(machine, "Its files are lost")
      }),
      calls: () => calls
    })
    return Context.make(SandboxProvider, provider).pipe(Context.add(MemorySandboxes, handle))
  })

/** Options of sandboxes in memory. */
export interface MemoryOptions {
  /** Additional programs that commands can run. */
  readonly programs?: MemoryPrograms
}

/** Sandboxes in memory with additional programs. */
export const layerWith = ({ programs = {} }: MemoryOptions): Layer.Layer<SandboxProvider | MemorySandboxes> =>
  Layer.effectContext(make(programs))

/** Sandboxes in memory, with the built-in programs, on Effect's clock. */
export const layer: Layer.Layer<SandboxProvider | MemorySandboxes> = layerWith({})
