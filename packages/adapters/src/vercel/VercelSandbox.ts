/** Sandboxes at Vercel: virtual machines, made, asked and ended by the SDK. */
import type { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import {
  SandboxGone,
  type SandboxNotRunning,
  SandboxProvider,
  type SandboxSpec,
  SandboxUnavailable,
  SnapshotGone
} from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Snapshot, type SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import type { Sandbox as Vm } from "@vercel/sandbox"
import { DateTime, Duration, Effect, Layer, Option, Schedule } from "effect"
import * as Api from "./Api.ts"
import * as Deadline from "../sandbox/Deadline.ts"
import { outputBlockSize } from "../sandbox/CommandStart.ts"
import * as Commands from "./Commands.ts"
import * as Files from "./Files.ts"
import * as Inside from "./ScriptRunner.ts"
import * as Machines from "./SandboxVms.ts"
import { checkOptions, fromConfig, maxLifetime, type VercelOptions, type VercelUnavailable } from "./Options.ts"
import * as Ports from "./Ports.ts"
import { type RequestFailed, unavailable } from "./RequestFailed.ts"
import { idOf, parse } from "./SnapshotIds.ts"

/** Ports that Vercel gives a sandbox at most. */
const mostPorts = 15

/** The shortest time Vercel moves an end by, in ms. */
const leastExtension = 1000

/** How long a sandbox runs at most that only runs to have its files elsewhere, in ms. */
const moment = Duration.toMillis(Duration.minutes(5))

/** Tries of what is refused because the sandbox is on its way from one state to another. */
const settling = { schedule: Schedule.spaced("500 millis").pipe(Schedule.upTo({ duration: Api.stateChangeDeadline })) }

const waited = <A>(asked: Effect.Effect<A, RequestFailed>) =>
  Effect.retry(asked, { ...settling, while: (refusal) => refusal.isStopping })

const make = Effect.fnUntraced(function* (options: VercelOptions) {
  const { image, network = "allow", outputKept: wanted = 64 * 1024 * 1024, region, registryHost } = options
  const api = Api.make(options)
  const most = maxLifetime(options)
  const kept = Duration.toMillis(Duration.days(options.keptDays ?? 30))
  const machine: Api.CreateParams = {
    resources: { vcpus: options.vcpus ?? 2 },
    snapshotExpiration: kept,
    ...(region !== undefined && { region })
  }
  const machines = yield* Machines.make(api, machine)
  const silence = options.silenceTimeout ?? Deadline.defaultSilence
  const inside = Inside.make(api, silence)
  const outputKept = wanted - (wanted % outputBlockSize)
  const commands = Commands.make(machines, inside, outputKept)
  const files = Files.make(api, machines, inside, silence)
  const ports = Ports.make(api, machines, inside)

  const lifetimeOf = (lifetime: Duration.Duration) => Math.min(most, Math.ceil(Duration.toMillis(lifetime)))

  const paramsOf = ({ from, lifetime, name, ports = [], registry = false }: SandboxSpec): Api.CreateParams => ({
    ...machine,
    name,
    timeout: lifetimeOf(lifetime),
    ports: [...ports],
    persistent: true,
    ...(network === "deny" && {
      networkPolicy: registry && registryHost !== undefined ? { allow: [registryHost] } : "deny-all"
    }),
    ...(Option.isSome(from)
      ? { source: { type: "snapshot" as const, snapshotId: parse(from.value).vercelId } }
      : image !== undefined && { image })
  })

  /** The one of the name, once it neither starts nor stops. */
  const standing = (operation: string, name: SandboxName) => Effect.mapError(api.settled(name), unavailable(operation))

  const ready = (operation: string, name: SandboxName, vm: Vm) =>
    vm.status !== "pending"
      ? Effect.succeed(Machines.toSandbox(vm))
      : Effect.map(standing(operation, name), (found) => Machines.toSandbox(Option.getOrElse(found, () => vm)))

  /** Why a sandbox could not be made: the name has one already, the snapshot is gone, or something else. */
  const notCreated = Effect.fnUntraced(function* (
    { from, name }: SandboxSpec,
    refusal: RequestFailed
  ): Effect.fn.Return<Sandbox, SnapshotGone | SandboxUnavailable> {
    const isRefused = refusal.status !== null && refusal.status >= 400 && refusal.status < 500 && !refusal.retryable
    if (isRefused || refusal.isGone) {
      const known = yield* standing("create", name)
      if (Option.isSome(known)) return Machines.toSandbox(known.value)
      if (Option.isSome(from)) {
        const exists = yield* Effect.mapError(api.hasSnapshot(parse(from.value).vercelId), unavailable("create"))
        if (refusal.isGone || !exists) return yield* new SnapshotGone({ id: from.value })
      }
    }
    return yield* unavailable("create")(refusal)
  })

  /** Asks for a sandbox. Where a lost one, which can't be looked at, still has the name, that one is deleted first. */
  const asked = (spec: SandboxSpec) =>
    api.create(paramsOf(spec)).pipe(
      Effect.catchIf(
        (refusal) => refusal.status === 400 || refusal.status === 409,
        (refusal) =>
          Effect.flatMap(api.get(spec.name), (known) =>
            Option.isSome(known)
              ? Effect.fail(refusal)
              : Effect.andThen(api.remove(spec.name), api.create(paramsOf(spec)))
          )
      )
    )

  const create = Effect.fnUntraced(function* (spec: SandboxSpec) {
    if ((spec.ports?.length ?? 0) > mostPorts) {
      const cause = new Error(`Vercel gives a sandbox ${mostPorts} ports at most`)
      return yield* new SandboxUnavailable({ operation: "create", retryable: false, cause })
    }
    return yield* asked(spec).pipe(
      Effect.matchEffect({
        onSuccess: (vm) => ready("create", spec.name, vm),
        onFailure: (refusal) => notCreated(spec, refusal)
      })
    )
  })

  /**
   * Removes the snapshots that stops made, but for the one with the files of the sandbox. Which that is, is asked after
   * they were listed: one that is made meanwhile is not among them, and one that runs meanwhile keeps them all.
   */
  const sweep = Effect.fnUntraced(function* (name: SandboxName) {
    const automatic = (yield* api.snapshots(name)).filter(({ creationMethod }) => creationMethod === "automatic")
    const now = yield* api.get(name)
    if (Option.exists(now, ({ status }) => status !== "stopped")) return
    const needed = Option.getOrUndefined(now)?.currentSnapshotId
    for (const { id } of automatic) if (id !== needed) yield* api.removeSnapshot(id)
  })

  /**
   * Whether a refusal to resume a sandbox means that its files are lost. A code that says only that the sandbox does not
   * run is not believed while a look still finds the sandbox. What is lost gives up its name.
   */
  const lost = Effect.fnUntraced(function* (name: SandboxName, refusal: RequestFailed) {
    if (refusal.isAbsent) return true
    if (!refusal.isSnapshotGone && Option.isSome(yield* api.get(name))) return false
    yield* api.remove(name)
    return true
  })

  const resume = Effect.fnUntraced(function* (name: SandboxName, lifetime: Duration.Duration) {
    const vm = yield* machines.find("resume", name)
    if (vm.status === "running") return Machines.toSandbox(vm)
    const timeout = lifetimeOf(lifetime)
    const asked =
      vm.timeout === timeout ? Effect.void : api.on("resume", (signal) => vm.update({ timeout }, { signal }))
    const resumed = yield* waited(Effect.andThen(asked, api.resume(name))).pipe(
      Effect.catchIf(
        (refusal) => refusal.isGone,
        (refusal) =>
          Effect.flatMap(lost(name, refusal), (isLost): Effect.Effect<never, RequestFailed | SandboxGone> =>
            Effect.fail(isLost ? new SandboxGone({ name }) : refusal)
          )
      ),
      Effect.catchTag("Refusal", (refusal) => Effect.fail(unavailable("resume")(refusal)))
    )
    return yield* ready("resume", name, resumed)
  })

  /** Ends a session; Vercel answers once it has ended. */
  const halt = (vm: Vm) => {
    const session = vm.currentSession()
    return api
      .on("stop", (signal) => session.stop({ signal }), Api.stateChangeDeadline)
      .pipe(
        Effect.asVoid,
        Effect.catchIf(
          (refusal) => refusal.isAbsent || refusal.isOver,
          () => Effect.void
        )
      )
  }

  const stop = Effect.fnUntraced(function* (name: SandboxName, only?: string) {
    const found = yield* api.get(name)
    if (Option.isNone(found)) return
    const vm = found.value
    const { sessionId, status } = vm.currentSession()
    if (only !== undefined && sessionId !== only) return
    if (status === "pending" || status === "running") {
      yield* ports.breakAll(name)
      yield* halt(vm)
      yield* api.settled(name)
      // What is not removed now is the next time, and expires in the end.
      yield* Effect.ignore(sweep(name))
    } else if (status === "stopping" || status === "snapshotting") {
      yield* api.settled(name)
    }
    yield* ports.breakAll(name)
  })

  /** Its answer may be lost: what is asked again then is whether the end has moved. */
  const extend = (name: SandboxName, by: Duration.Duration) =>
    machines.inRunning("extend", name, (session, vm) => {
      const more = Math.min(Math.ceil(Duration.toMillis(by)), most - session.timeout)
      if (more < leastExtension) return Effect.succeed(Machines.toSandbox(vm))
      const wanted = session.timeout + more
      return api
        .on("extend", (signal) => session.extendTimeout(more, { signal }))
        .pipe(
          Effect.map(() => Machines.toSandbox(vm)),
          Effect.catch((refusal) =>
            Effect.flatMap(api.get(name), (now) => {
              const moved = Option.filter(now, (one) => {
                const { sessionId, timeout } = one.currentSession()
                return sessionId === session.sessionId && timeout >= wanted
              })
              return Option.isSome(moved) ? Effect.succeed(Machines.toSandbox(moved.value)) : Effect.fail(refusal)
            })
          )
        )
    })

  const toSnapshot = (source: SandboxName, id: string, createdAt: number | Date) =>
    new Snapshot({ id: idOf(id, source), source, createdAt: DateTime.makeUnsafe(createdAt) })

  /** The snapshot that was made although its answer was lost: it is of the session that was asked. */
  const alreadyMade = Effect.fnUntraced(function* (
    name: SandboxName,
    asked: ReadonlyArray<string>,
    cause: SandboxNotRunning
  ) {
    const all = yield* Effect.mapError(api.snapshots(name), unavailable("snapshot"))
    const made = all.find((one) => one.creationMethod !== "automatic" && asked.includes(one.sourceSessionId))
    return made ?? (yield* new SandboxUnavailable({ operation: "snapshot", retryable: true, cause }))
  })

  /** Taking a snapshot stops a sandbox, and one that is stopped has to run for it. */
  const snapshot = Effect.fnUntraced(function* (name: SandboxName) {
    const vm = yield* machines.find("snapshot", name)
    if (vm.status !== "running") yield* resume(name, Duration.millis(moment))
    const asked: Array<string> = []
    const made = yield* machines
      .inRunning("snapshot", name, (session) => {
        asked.push(session.sessionId)
        return api
          .on("snapshot", (signal) => session.snapshot({ expiration: kept, signal }), Api.stateChangeDeadline)
          .pipe(Effect.map(({ createdAt, snapshotId }) => ({ id: snapshotId, createdAt: createdAt.getTime() })))
      })
      .pipe(Effect.catchTag("SandboxNotRunning", (cause) => alreadyMade(name, asked, cause)))
    yield* ports.breakAll(name)
    yield* standing("snapshot", name)
    yield* Effect.ignore(sweep(name))
    return toSnapshot(name, made.id, made.createdAt)
  })

  /**
   * A sandbox that was stopped by its snapshot has its files there and nowhere else: before that goes it runs for a
   * moment, and has them in one of its own then. For the moment it is given a short time: should this break off, it stops
   * by itself. Who resumes it in that moment has it stopped under them, and resumes it again.
   */
  const freed = Effect.fnUntraced(function* (name: SandboxName, snapshot: string) {
    const vm = Option.getOrUndefined(yield* api.settled(name))
    if (vm === undefined || vm.status === "running" || vm.currentSnapshotId !== snapshot) return
    let isOurs = false
    const briefly = api.on("removeSnapshot", (signal) => vm.update({ timeout: moment }, { signal }))
    const woken = yield* waited(
      Effect.andThen(
        briefly,
        api.resume(name, () => (isOurs = true))
      )
    ).pipe(
      Effect.map(Option.some),
      Effect.catchIf(
        (refusal) => refusal.isGone,
        (refusal) =>
          // Its files are nowhere else: only where the sandbox is lost may the snapshot go.
          refusal.isAbsent || refusal.isSnapshotGone
            ? Effect.succeedNone
            : Effect.flatMap(api.get(name), (known) =>
                Option.isSome(known) ? Effect.fail(refusal) : Effect.succeedNone
              )
      )
    )
    // Somebody else who woke it meanwhile goes on with it.
    if (isOurs && Option.isSome(woken)) yield* Effect.andThen(halt(woken.value), api.settled(name))
  })

  const removeSnapshot = Effect.fnUntraced(function* (id: SnapshotId) {
    const { source, vercelId } = parse(id)
    if (source !== undefined && (yield* api.hasSnapshot(vercelId))) yield* freed(source, vercelId)
    yield* api.removeSnapshot(vercelId)
  })

  const findMany = Effect.fnUntraced(function* (names: ReadonlyArray<SandboxName>) {
    if (names.length === 0) return []
    if (names.length === 1) {
      const found = yield* api.get(names[0]!)
      return Option.isSome(found) ? [Machines.toSandbox(found.value)] : []
    }
    const sorted = [...names].sort()
    const wanted = new Set<string>(names)
    const listed = yield* api.listed(shared(sorted[0]!, sorted.at(-1)!), sorted.at(-1)!)
    return listed.filter(({ name }) => wanted.has(name)).map(Machines.fromListing)
  })

  return SandboxProvider.of({
    supports: { name: "vercel", isolation: "vm", snapshotStops: true, outputKept, sharesPorts: false },
    find: (name) =>
      Effect.mapBoth(api.get(name), { onSuccess: Option.map(Machines.toSandbox), onFailure: unavailable("find") }),
    findMany: (names) => Effect.mapError(findMany(names), unavailable("findMany")),
    create,
    resume,
    stop: (name, only) => Effect.mapError(stop(name, only?.incarnation), unavailable("stop")),
    remove: (name) =>
      ports
        .breakAll(name)
        .pipe(
          Effect.andThen(waited(api.remove(name))),
          Effect.andThen(sweep(name)),
          Effect.mapError(unavailable("remove"))
        ),
    extend,
    snapshot,
    snapshots: (source) =>
      Effect.mapBoth(api.snapshots(source), {
        onSuccess: (all) =>
          all
            .filter(({ creationMethod }) => creationMethod !== "automatic")
            .map(({ createdAt, id }) => toSnapshot(source, id, createdAt)),
        onFailure: unavailable("snapshots")
      }),
    removeSnapshot: (id) => Effect.mapError(removeSnapshot(id), unavailable("removeSnapshot")),
    start: commands.start,
    command: commands.command,
    wait: commands.wait,
    output: commands.output,
    kill: commands.kill,
    forget: commands.forget,
    readFile: files.read,
    writeFile: files.write,
    listFiles: files.list,
    connect: ports.connect
  })
})

/** What two texts begin with, both. */
const shared = (one: string, other: string) => {
  let length = 0
  while (length < one.length && one[length] === other[length]) length++
  return one.slice(0, length)
}

/** Sandboxes at Vercel; what is wrong with the options stops the start. */
export const layer = (options: VercelOptions): Layer.Layer<SandboxProvider, VercelUnavailable> =>
  Layer.effect(SandboxProvider, Effect.andThen(checkOptions(options), make(options)))

/** As the environment says: VERCEL_TOKEN, VERCEL_TEAM_ID, VERCEL_PROJECT_ID, and what is named CASTELLAN_VERCEL_…. */
export const layerConfig: Layer.Layer<SandboxProvider, VercelUnavailable> = Layer.unwrap(Effect.map(fromConfig, layer))
