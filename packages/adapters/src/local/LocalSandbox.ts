/** Sandboxes on this host. */
import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { Snapshot, SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import {
  SandboxGone,
  SandboxProvider,
  type SandboxSpec,
  SandboxUnavailable
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Duration, Effect, FiberMap, Layer, Option, Schedule, Stream } from "effect"
import { withDeadline } from "../sandbox/Deadline.ts"
import { outputBlockSize } from "../sandbox/CommandStart.ts"
import * as Commands from "./sandbox/Commands.ts"
import * as Files from "./sandbox/Files.ts"
import * as Gateway from "./network/Gateway.ts"
import * as Images from "./sandbox/Images.ts"
import { LocalUnavailable } from "./isolation/Isolation.ts"
import { fresh } from "./sandbox/Layout.ts"
import * as Machines from "./sandbox/Machines.ts"
import { open, type Opened } from "./isolation/Open.ts"
import type { LocalOptions } from "./Options.ts"
import { endOrphans } from "./sandbox/Orphans.ts"
import * as Ports from "./network/Ports.ts"
import * as Registry from "./sandbox/Registry.ts"
import { settings } from "./Settings.ts"
import { dialHost } from "./network/Sockets.ts"
import * as Trash from "./sandbox/Trash.ts"
import * as Watchdog from "./sandbox/Watchdog.ts"

const mebibyte = 1024 * 1024

/** Milliseconds between two looks after the sandboxes that run, and how many others are looked at each time. */
const lookEvery = 1000
const othersAtOnce = 25

/** How long it may take to end a command; it is done in milliseconds unless the host is overloaded. */
const killedWithin = Duration.minutes(1)

/** Milliseconds that a command may be over its deadline before the server ends it, as its own wrapper should have. */
const overdue = 10_000

const make = Effect.fnUntraced(function* ({ isolation, layout, locks, stillThere }: Opened, options: LocalOptions) {
  const wanted = options.outputKept ?? 128 * mebibyte
  const outputKept = wanted - (wanted % outputBlockSize)
  const registry = yield* Registry.make(layout, isolation, locks, options.registry)
  const gateways = yield* Gateway.make(isolation, registry.url)
  const dial = isolation.sharesNetwork ? (_: Machines.Running, port: Port) => dialHost(port) : gateways.dial
  const ports = Ports.make(dial, ({ spec }) =>
    Effect.match(machines.running(spec.name), {
      onFailure: () => false,
      onSuccess: (now) => now.spec.incarnation === spec.incarnation
    })
  )
  const trash = yield* Trash.make(layout, isolation)
  const machines = Machines.make(
    layout,
    isolation,
    trash,
    (name, init) => Effect.andThen(ports.breakAll(name), gateways.end(init)),
    stillThere
  )
  const images = Images.make(layout, isolation, locks, trash)
  const commands = Commands.make(isolation, outputKept)
  const files = Files.make(isolation, options.silence)
  const overfull = Watchdog.make(isolation, { disk: 10 * 1024 * mebibyte, ...options.limits })
  const locked = locks.sandbox
  const deadlines = yield* FiberMap.make<string>()

  /** Does something at that moment, and again at the one it then gives. */
  const at = (key: string, moment: number, then: Effect.Effect<number | void, unknown>) => {
    const waited = (moment: number): Effect.Effect<void, unknown> =>
      Clock.currentTimeMillis.pipe(
        Effect.flatMap((now) => Effect.sleep(Math.max(0, moment - now))),
        Effect.andThen(then),
        Effect.flatMap((next) => (next === undefined ? Effect.void : waited(next)))
      )
    return FiberMap.run(deadlines, key, Effect.ignore(waited(moment)))
  }

  const stopAs = (name: SandboxName, status: "stopped" | "failed", reason: string | null, only?: string) =>
    locked(name)(
      Effect.gen(function* () {
        const spec = yield* machines.load(name)
        if (spec === undefined || (only !== undefined && Machines.incarnationOf(spec) !== only)) return
        yield* machines.stop(spec, status, reason)
      })
    )

  /** Stops a sandbox whose time is up. Another process may have given it more: then that moment is given. */
  const expire = (name: SandboxName) =>
    locked(name)(
      Effect.gen(function* () {
        const spec = yield* machines.load(name)
        if (spec?.status !== "running") return
        if (spec.expiresAt > (yield* Clock.currentTimeMillis)) return spec.expiresAt
        yield* machines.stop(spec, "stopped", Machines.expired)
      })
    )

  /** The sandboxes that run, or did when they were last looked at, and when they were to expire then. */
  const awake = new Map<SandboxName, number>()

  const expireAt = (spec: Machines.Spec) => {
    awake.set(spec.name, spec.expiresAt)
    return at(`sandbox ${spec.name}`, spec.expiresAt, expire(spec.name))
  }

  /** Ends a command that its own wrapper should have ended by then. */
  const timeOutAt = (name: SandboxName, id: CommandId, deadline: number) => {
    const kill = Effect.flatMap(machines.running(name), (machine) => commands.kill(machine, id, "timedOut"))
    const over = Effect.flatMap(commands.find(layout.sandbox(name), id), ({ end }) =>
      end === null ? kill : Effect.void
    )
    return at(`command ${name} ${id}`, deadline + overdue, over)
  }

  /** What commands of the sandbox are to know of its registry, which they can reach by then. */
  const variables = Effect.fnUntraced(function* (machine: Machines.Running) {
    if (machine.spec.registry !== true) return {}
    if (!isolation.sharesNetwork) yield* gateways.up(machine)
    return yield* registry.environment
  })

  const create = Effect.fnUntraced(function* (wanted: SandboxSpec) {
    const { name } = wanted
    const known = yield* machines.load(name)
    if (known !== undefined && known.status !== "pending") return known
    if (wanted.registry) yield* registry.environment
    const now = yield* Clock.currentTimeMillis
    const begin = ({ chain, user }: Pick<Machines.Spec, "chain" | "user">) =>
      machines.begin({
        name,
        createdAt: now,
        expiresAt: now + Duration.toMillis(wanted.lifetime),
        status: "pending",
        incarnation: fresh(),
        reason: null,
        chain,
        ports: wanted.ports ?? [],
        registry: wanted.registry ?? false,
        ...(user === undefined ? {} : { user }),
        bootId: ""
      })
    // Files of a creation that was cut off belong to the user that it chose.
    const user = known === undefined ? isolation.newUser() : known.user === undefined ? {} : { user: known.user }
    const begun = yield* Option.isSome(wanted.from)
      ? images.standOn(wanted.from.value, begin)
      : begin({ chain: [], ...user })
    const spec = yield* machines.create(begun)
    yield* expireAt(spec)
    return spec
  })

  const resume = Effect.fnUntraced(function* (name: SandboxName, lifetime: Duration.Duration) {
    const known = yield* machines.get(name)
    if (known.status === "running") return known
    if (yield* images.isLost(known)) {
      yield* machines.remove(name)
      return yield* new SandboxGone({ name })
    }
    if (known.registry) yield* registry.environment
    const spec = yield* images.finish(known)
    const expiresAt = (yield* Clock.currentTimeMillis) + Duration.toMillis(lifetime)
    const booted = yield* machines.boot({ ...spec, expiresAt, incarnation: fresh() })
    yield* expireAt(booted)
    return booted
  })

  const extend = Effect.fnUntraced(function* (name: SandboxName, by: Duration.Duration) {
    const { spec } = yield* machines.running(name)
    const longer = yield* machines.write({ ...spec, expiresAt: spec.expiresAt + Duration.toMillis(by) })
    yield* expireAt(longer)
    return longer
  })

  /** Takes a snapshot, unless the sandbox's chain of layers is to be flattened first. */
  const takeUnlessLong = (name: SandboxName, flattened?: Images.Flattened) =>
    locked(name)(
      Effect.gen(function* () {
        const known = yield* machines.get(name)
        if (images.isLong(known, flattened)) return Option.none<Snapshot>()
        const stopped = yield* machines.stop(known, "stopped", "It was stopped to take a snapshot")
        return Option.some(yield* images.take(stopped, yield* Clock.currentTimeMillis, flattened))
      })
    )

  const flattenAndTake = Effect.fnUntraced(function* (name: SandboxName) {
    const begun = yield* locked(name)(Effect.flatMap(machines.get(name), images.finish))
    if (!images.isLong(begun)) return Option.none<Snapshot>()
    return yield* images
      .flatten(begun, (flattened) => takeUnlessLong(name, flattened))
      .pipe(
        // Layers that the sandbox has left behind meanwhile may be gone.
        Effect.tapError(() => machines.get(name))
      )
  })

  const snapshot = (name: SandboxName): Effect.Effect<Snapshot, SandboxGone | SandboxUnavailable> =>
    Effect.gen(function* () {
      const taken = yield* takeUnlessLong(name)
      if (Option.isSome(taken)) return taken.value
      const flattened = yield* locks.flattening(name)(flattenAndTake(name))
      return Option.isSome(flattened) ? flattened.value : yield* snapshot(name)
    })

  /** Sees to it that a running sandbox and its commands end in time, whoever started them. */
  const lookAfter = Effect.fnUntraced(function* (spec: Machines.Spec) {
    yield* expireAt(spec)
    const unfinished = yield* commands.unfinished(layout.sandbox(spec.name))
    for (const { deadline, id } of unfinished) yield* timeOutAt(spec.name, id, deadline)
  })

  const adoptOne = Effect.fnUntraced(function* (name: SandboxName) {
    const spec = yield* machines.settle(name)
    if (spec === undefined) {
      yield* machines.remove(name)
    } else if (spec.status === "running") {
      yield* lookAfter(spec)
    } else if (spec.status !== "pending") {
      yield* machines.end(layout.sandbox(name), name)
      if (!(yield* images.isLost(spec))) yield* images.finish(spec)
    }
  })

  /** What earlier lives of the server left: sandboxes that still run get their deadlines back, the rest its end. */
  const adopt = Effect.gen(function* () {
    yield* endOrphans(layout, isolation.sweep)
    for (const name of yield* machines.names) yield* locked(name)(adoptOne(name))
    yield* images.collect
    yield* images.clear
  })

  /** The names that have still to be looked at in this round through all there are. */
  let others: Array<SandboxName> = []

  /** Looks after what other processes brought up, too, some at a time: those may be gone. */
  const watchOthers = Effect.gen(function* () {
    if (others.length === 0) others = yield* machines.names
    for (const name of others.splice(0, othersAtOnce)) {
      if (awake.has(name)) continue
      const spec = yield* machines.load(name)
      if (spec?.status === "running") yield* lookAfter(spec)
    }
  })

  /** Looks after the sandboxes that run: writes down which ended by themselves, and ends those that take too much. */
  const watch = Effect.gen(function* () {
    const running: Array<Machines.Running> = []
    for (const [name, expiresAt] of awake) {
      const machine = yield* Effect.option(machines.running(name))
      if (Option.isSome(machine)) {
        running.push(machine.value)
        if (machine.value.spec.expiresAt !== expiresAt) yield* expireAt(machine.value.spec)
      } else {
        awake.delete(name)
        yield* locked(name)(machines.settle(name))
      }
    }
    for (const { reason, spec } of yield* overfull(running)) {
      yield* stopAs(spec.name, "failed", reason, Machines.incarnationOf(spec))
    }
    yield* watchOthers
  })

  yield* adopt
  yield* Effect.forkScoped(
    Effect.repeat(
      Effect.catchCause(watch, (cause) =>
        Effect.logWarning("the local provider could not look after its sandboxes", cause)
      ),
      Schedule.spaced(lookEvery)
    )
  )

  const sandbox = Effect.map(Machines.toSandbox)
  const find = Effect.fnUntraced(function* (name: SandboxName) {
    return Option.map(Option.fromUndefinedOr(yield* machines.load(name)), Machines.toSandbox)
  })
  const inRunning = Effect.fnUntraced(function* (name: SandboxName) {
    return yield* machines.running(name)
  })

  return SandboxProvider.of({
    supports: {
      name: "local",
      isolation: isolation.kind,
      protections: isolation.protections,
      snapshotStops: true,
      outputKept,
      sharesPorts: isolation.sharesNetwork
    },
    find,
    findMany: (names) => Effect.map(Effect.forEach(names, find), (found) => found.flatMap(Option.toArray)),
    create: (wanted) => sandbox(locked(wanted.name)(create(wanted))),
    resume: (name, lifetime) => sandbox(locked(name)(resume(name, lifetime))),
    stop: (name, only) => stopAs(name, "stopped", null, only?.incarnation),
    remove: (name) =>
      locked(name)(machines.remove(name).pipe(Effect.andThen(FiberMap.remove(deadlines, `sandbox ${name}`)))).pipe(
        Effect.andThen(images.collect)
      ),
    extend: (name, by) => sandbox(locked(name)(extend(name, by))),
    snapshot,
    snapshots: images.of,
    removeSnapshot: (id: SnapshotId) => Effect.andThen(images.forget(id), images.collect),
    start: Effect.fnUntraced(function* (name, spec) {
      const now = yield* Clock.currentTimeMillis
      return yield* locked(name)(
        Effect.flatMap(inRunning(name), (machine) =>
          Effect.flatMap(variables(machine), (known) => commands.start(machine, spec, now, known))
        )
      )
    }),
    command: (name, id) => Effect.andThen(machines.get(name), commands.find(layout.sandbox(name), id)),
    wait: (name, id) => Effect.andThen(machines.get(name), commands.wait(layout.sandbox(name), id)),
    forget: (name, id) =>
      Effect.andThen(machines.get(name), commands.forget(layout.sandbox(name), id)).pipe(
        Effect.catchTag("SandboxGone", () => Effect.void)
      ),
    output: (name, id, from) =>
      Stream.unwrap(Effect.as(machines.get(name), commands.output(layout.sandbox(name), id, from))),
    kill: Effect.fnUntraced(function* (name, id) {
      yield* machines.get(name)
      const machine = yield* Effect.option(machines.running(name))
      if (Option.isSome(machine)) {
        yield* commands.kill(machine.value, id, "killed").pipe(withDeadline("kill", killedWithin))
      } else yield* commands.find(layout.sandbox(name), id)
    }),
    readFile: (name, path) => Stream.unwrap(Effect.map(inRunning(name), (machine) => files.read(machine, path))),
    writeFile: (name, path, content, options) =>
      Effect.flatMap(inRunning(name), (machine) => files.write(machine, path, content, options)),
    listFiles: (name, path, page) => Effect.flatMap(inRunning(name), (machine) => files.list(machine, path, page)),
    connect: (name, port) => Effect.flatMap(inRunning(name), (machine) => ports.connect(machine, port))
  })
})

export const layer = (options: LocalOptions): Layer.Layer<SandboxProvider, LocalUnavailable> =>
  Layer.effect(
    SandboxProvider,
    Effect.gen(function* () {
      return yield* make(yield* open(options), options).pipe(
        Effect.mapError(
          (cause: SandboxUnavailable) =>
            new LocalUnavailable({
              message: `${options.directory} can't be used for sandboxes: ${String(cause.cause)}`
            })
        )
      )
    })
  )

/** As the environment says; see `Settings`. */
export const layerConfig = (options: Pick<LocalOptions, "directory">) =>
  Layer.unwrap(Effect.map(settings, (given) => layer({ ...options, ...given })))
