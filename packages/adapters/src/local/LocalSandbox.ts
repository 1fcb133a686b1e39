/** The sandbox provider that runs sandboxes as processes of this host. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Duration, Effect, FiberMap, Layer, Option, Stream } from "effect"
import { withDeadline } from "../sandbox/Deadline.ts"
import { outputBlockSize } from "../sandbox/CommandStart.ts"
import { type OpenedProvider, openProvider } from "./Bootstrap.ts"
import { LocalUnavailable, type RunningSandbox } from "./isolation/Isolation.ts"
import * as Authority from "./isolation/Authority.ts"
import * as Gateway from "./network/Gateway.ts"
import * as PackageRegistry from "./network/PackageRegistry.ts"
import * as Ports from "./network/Ports.ts"
import * as WayOut from "./network/WayOut.ts"
import { dialHost } from "./network/Sockets.ts"
import type { LocalOptions } from "./Options.ts"
import { attemptSync } from "./process/attempt.ts"
import * as Commands from "./sandbox/Commands.ts"
import * as Deadlines from "./sandbox/Deadlines.ts"
import * as Files from "./sandbox/Files.ts"
import * as Images from "./sandbox/Images.ts"
import * as Layers from "./sandbox/Layers.ts"
import * as Lifecycle from "./sandbox/Lifecycle.ts"
import * as SandboxProcesses from "./sandbox/SandboxProcesses.ts"
import * as SandboxRecords from "./sandbox/SandboxRecords.ts"
import * as Supervisor from "./sandbox/Supervisor.ts"
import * as Trash from "./sandbox/Trash.ts"
import * as Watchdog from "./sandbox/Watchdog.ts"
import { settingsFromEnvironment } from "./Settings.ts"
import { toSandbox } from "./storage/SandboxRecord.ts"

/** 128 MiB. */
const defaultOutputKept = 128 * 1024 * 1024

/** The time limit of killing a command; it takes milliseconds unless the host is overloaded. */
const killTimeout = Duration.minutes(1)

/**
 * Runs an effect for a sandbox in the background, one at a time per sandbox. A failure is logged, and the next check
 * tries again.
 */
const inBackground = Effect.fnUntraced(function* <E>(run: (name: SandboxName) => Effect.Effect<unknown, E>) {
  const fibers = yield* FiberMap.make<SandboxName>()
  return (name: SandboxName) =>
    FiberMap.run(
      fibers,
      name,
      Effect.catchCause(run(name), (cause) =>
        Effect.logWarning("Failed to open the network of a sandbox", { sandbox: name }, cause)
      ),
      { onlyIfMissing: true }
    )
})

/** Builds the parts of a provider and starts its supervisor. */
const makeParts = Effect.fnUntraced(function* (provider: OpenedProvider, options: LocalOptions) {
  const { assertDirectory, isolation, layout, locks } = provider
  const requested = options.outputKept ?? defaultOutputKept
  const outputKept = requested - (requested % outputBlockSize)
  const registry = yield* PackageRegistry.make(layout, isolation, locks, options.registry)
  const gateways = yield* Gateway.make(isolation, registry.url)
  const wayOut = yield* WayOut.make(isolation, {
    policy: options.network ?? "none",
    authority: isolation.sharesNetwork ? undefined : yield* attemptSync("open", () => Authority.read(layout)),
    trusted: options.egressTrusted ?? [],
    ...(options.egressHosts === undefined ? {} : { hosts: options.egressHosts })
  })
  const trash = yield* Trash.make(layout, isolation)
  const records = SandboxRecords.make(layout, isolation, assertDirectory)
  const dial = isolation.sharesNetwork ? (_: RunningSandbox, port: Port) => dialHost(port) : gateways.dial
  const ports = Ports.make(dial, ({ record }) =>
    Effect.match(records.getRunning(record.name), {
      onFailure: () => false,
      onSuccess: (current) => current.record.incarnation === record.incarnation
    })
  )
  const processes = SandboxProcesses.make(layout, isolation, records, trash, (name, init) =>
    Effect.all([ports.breakAll(name), gateways.end(init), wayOut.end(init)], { discard: true })
  )
  const images = Images.make(layout, isolation, locks, trash)
  const layers = Layers.make(layout, locks, trash)
  const commands = Commands.make(isolation, outputKept)
  const files = Files.make(isolation, options.silence)
  const deadlines = yield* Deadlines.make(layout, locks, records, processes, commands)
  const parts = { layout, isolation, locks, records, processes, images, layers, commands, deadlines }
  const openNetwork = yield* inBackground((name: SandboxName) =>
    Effect.flatMap(records.getRunning(name), wayOut.ensure)
  )
  const lifecycle = Lifecycle.make({ ...parts, registry: registry.environment, openNetwork })
  const watchdog = Watchdog.make(layout, isolation, options.limits)
  yield* Supervisor.run({
    ...parts,
    lifecycle,
    watchdog,
    openNetwork,
    isNetworkSettled: wayOut.isSettled,
    closeEndedNetworks: wayOut.closeEnded
  })

  /** Opens the network of a sandbox and returns the environment of its commands. */
  const networkVariables = Effect.fnUntraced(function* (sandbox: RunningSandbox) {
    yield* wayOut.ensure(sandbox)
    const trust = wayOut.isNeeded(sandbox) ? Authority.trustVariables : {}
    if (sandbox.record.registry !== true) return trust
    if (!isolation.sharesNetwork) yield* gateways.ensureRunning(sandbox)
    return { ...trust, ...(yield* registry.environment) }
  })

  return { ...parts, files, lifecycle, networkVariables, outputKept, ports }
})

const make = Effect.fnUntraced(function* (provider: OpenedProvider, options: LocalOptions) {
  const {
    commands,
    files,
    images,
    isolation,
    layers,
    layout,
    lifecycle,
    locks,
    networkVariables,
    outputKept,
    ports,
    records
  } = yield* makeParts(provider, options)

  const find = Effect.fnUntraced(function* (name: SandboxName) {
    return Option.map(Option.fromUndefinedOr(yield* records.find(name)), toSandbox)
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
    create: (spec) => Effect.map(lifecycle.create(spec), toSandbox),
    resume: (name, lifetime) => Effect.map(lifecycle.resume(name, lifetime), toSandbox),
    stop: (name, only) => lifecycle.stop(name, "stopped", null, only?.incarnation),
    remove: lifecycle.remove,
    extend: (name, by) => Effect.map(lifecycle.extend(name, by), toSandbox),
    snapshot: lifecycle.snapshot,
    snapshots: images.list,
    removeSnapshot: (id) => Effect.andThen(images.remove(id), layers.collectUnused),
    start: Effect.fnUntraced(function* (name, spec) {
      const now = yield* Clock.currentTimeMillis
      return yield* locks.sandbox(name)(
        Effect.gen(function* () {
          const sandbox = yield* records.getRunning(name)
          return yield* commands.start(sandbox, spec, now, yield* networkVariables(sandbox))
        })
      )
    }),
    command: (name, id) => Effect.andThen(records.get(name), commands.find(layout.sandbox(name), id)),
    wait: (name, id) => Effect.andThen(records.get(name), commands.wait(layout.sandbox(name), id)),
    forget: (name, id) =>
      Effect.andThen(records.get(name), commands.forget(layout.sandbox(name), id)).pipe(
        Effect.catchTag("SandboxGone", () => Effect.void)
      ),
    output: (name, id, from) =>
      Stream.unwrap(Effect.as(records.get(name), commands.output(layout.sandbox(name), id, from))),
    kill: Effect.fnUntraced(function* (name, id) {
      yield* records.get(name)
      const sandbox = yield* Effect.option(records.getRunning(name))
      if (Option.isSome(sandbox)) {
        yield* commands.kill(sandbox.value, id, "killed").pipe(withDeadline("kill", killTimeout))
      } else yield* commands.find(layout.sandbox(name), id)
    }),
    readFile: (name, path) =>
      Stream.unwrap(Effect.map(records.getRunning(name), (sandbox) => files.read(sandbox, path))),
    writeFile: (name, path, content, options) =>
      Effect.flatMap(records.getRunning(name), (sandbox) => files.write(sandbox, path, content, options)),
    listFiles: (name, path, page) =>
      Effect.flatMap(records.getRunning(name), (sandbox) => files.list(sandbox, path, page)),
    connect: (name, port) => Effect.flatMap(records.getRunning(name), (sandbox) => ports.connect(sandbox, port))
  })
})

/** Fails with `LocalUnavailable` if the host can't run sandboxes as the options ask. */
export const layer = (options: LocalOptions): Layer.Layer<SandboxProvider, LocalUnavailable> =>
  Layer.effect(
    SandboxProvider,
    Effect.gen(function* () {
      return yield* make(yield* openProvider(options), options).pipe(
        Effect.mapError(
          (cause: SandboxUnavailable) =>
            new LocalUnavailable({
              message: `${options.directory} can't be used for sandboxes: ${String(cause.cause)}`
            })
        )
      )
    })
  )

/** As `layer`, with the other options from the environment; see `Settings.ts`. */
export const layerConfig = (options: Pick<LocalOptions, "directory">) =>
  Layer.unwrap(Effect.map(settingsFromEnvironment, (settings) => layer({ ...options, ...settings })))
