/** Runs sandboxes as virtual machines at Vercel, through Vercel's SDK. */
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
import { importOptional } from "../process/optionalPackage.ts"
import { outputBlockSize } from "../sandbox/CommandStart.ts"
import * as Deadline from "../sandbox/Deadline.ts"
import * as Api from "./Api.ts"
import * as Commands from "./Commands.ts"
import * as Files from "./Files.ts"
import { checkOptions, fromConfig, maxLifetime, type VercelOptions, VercelUnavailable } from "./Options.ts"
import * as Ports from "./Ports.ts"
import { type RequestFailed, unavailable } from "./RequestFailed.ts"
import * as SandboxVms from "./SandboxVms.ts"
import * as ScriptRunner from "./ScriptRunner.ts"
import { idOf, parse } from "./SnapshotIds.ts"
import { fromListing, toSandbox } from "./toSandbox.ts"

/** The most ports that Vercel gives a sandbox. */
const maxPorts = 15

/** Milliseconds of the shortest extension that Vercel accepts. */
const minExtension = 1000

/** The lifetime of a sandbox that runs only to be stopped again: it ends by itself should this process die. */
const briefLifetime = Duration.minutes(5)

/** Retries requests that are refused while the sandbox stops or is snapshotted. */
const retryWhileStopping = <A>(request: Effect.Effect<A, RequestFailed>) =>
  Effect.retry(request, {
    schedule: Schedule.spaced("500 millis").pipe(Schedule.upTo({ duration: Api.stateChangeDeadline })),
    while: (failure) => failure.isStopping
  })

/** What the operations on one Vercel project share. */
interface Project {
  readonly options: VercelOptions
  readonly api: Api.Api
  readonly vms: SandboxVms.SandboxVms
  readonly ports: ReturnType<typeof Ports.make>
  /** Parameters of every VM. */
  readonly machine: Api.CreateParams
  /** Milliseconds. */
  readonly snapshotExpiration: number
}

const lifetimeMillis = (options: VercelOptions, lifetime: Duration.Duration) =>
  Math.min(maxLifetime(options), Math.ceil(Duration.toMillis(lifetime)))

/** The sandbox of that name once it neither starts nor stops. */
const findSettled = (api: Api.Api, operation: string, name: SandboxName) =>
  Effect.mapError(api.settled(name), unavailable(operation))

/** The sandbox once it has started. */
const untilStarted = (api: Api.Api, operation: string, name: SandboxName, vm: Vm) =>
  vm.status !== "pending"
    ? Effect.succeed(toSandbox(vm))
    : Effect.map(findSettled(api, operation, name), (found) => toSandbox(Option.getOrElse(found, () => vm)))

const makeCreate = ({ api, machine, options }: Project) => {
  const { image, network = "allow", registryHost } = options

  const paramsOf = ({ from, lifetime, name, ports = [], registry = false }: SandboxSpec): Api.CreateParams => ({
    ...machine,
    name,
    timeout: lifetimeMillis(options, lifetime),
    ports: [...ports],
    persistent: true,
    ...(network === "deny" && {
      networkPolicy: registry && registryHost !== undefined ? { allow: [registryHost] } : "deny-all"
    }),
    ...(Option.isSome(from)
      ? { source: { type: "snapshot" as const, snapshotId: parse(from.value).vercelId } }
      : image !== undefined && { image })
  })

  /** Explains a failed create: the name exists, which is success; the snapshot is gone; or another error. */
  const existingOrError = Effect.fnUntraced(function* (
    { from, name }: SandboxSpec,
    failure: RequestFailed
  ): Effect.fn.Return<Sandbox, SnapshotGone | SandboxUnavailable> {
    const isRefused = failure.status !== null && failure.status >= 400 && failure.status < 500 && !failure.retryable
    if (isRefused || failure.isGone) {
      const existing = yield* findSettled(api, "create", name)
      if (Option.isSome(existing)) return toSandbox(existing.value)
      if (Option.isSome(from)) {
        const exists = yield* Effect.mapError(api.hasSnapshot(parse(from.value).vercelId), unavailable("create"))
        if (failure.isGone || !exists) return yield* new SnapshotGone({ id: from.value })
      }
    }
    return yield* unavailable("create")(failure)
  })

  /** Creates a sandbox. A lost sandbox that still holds the name, though it can't be requested, is deleted first. */
  const createFreeingName = (spec: SandboxSpec) =>
    api.create(paramsOf(spec)).pipe(
      Effect.catchIf(
        (failure) => failure.status === 400 || failure.status === 409,
        (failure) =>
          Effect.flatMap(api.get(spec.name), (existing) =>
            Option.isSome(existing)
              ? Effect.fail(failure)
              : Effect.andThen(api.remove(spec.name), api.create(paramsOf(spec)))
          )
      )
    )

  return Effect.fnUntraced(function* (spec: SandboxSpec) {
    if ((spec.ports?.length ?? 0) > maxPorts) {
      const cause = new Error(`Vercel gives a sandbox ${maxPorts} ports at most`)
      return yield* new SandboxUnavailable({ operation: "create", retryable: false, cause })
    }
    return yield* createFreeingName(spec).pipe(
      Effect.matchEffect({
        onSuccess: (vm) => untilStarted(api, "create", spec.name, vm),
        onFailure: (failure) => existingOrError(spec, failure)
      })
    )
  })
}

const makeResume = ({ api, options, vms }: Project) => {
  /**
   * Whether a failed resume means that the sandbox's files are lost. A code that only says that the sandbox does not run
   * is not believed while the sandbox is still found. A lost sandbox is removed, which frees its name.
   */
  const removeIfLost = Effect.fnUntraced(function* (name: SandboxName, failure: RequestFailed) {
    if (failure.isAbsent) return true
    if (!failure.isSnapshotGone && Option.isSome(yield* api.get(name))) return false
    yield* api.remove(name)
    return true
  })

  return Effect.fnUntraced(function* (name: SandboxName, lifetime: Duration.Duration) {
    const vm = yield* vms.find("resume", name)
    if (vm.status === "running") return toSandbox(vm)
    const timeout = lifetimeMillis(options, lifetime)
    const setLifetime =
      vm.timeout === timeout ? Effect.void : api.on("resume", (signal) => vm.update({ timeout }, { signal }))
    const resumed = yield* retryWhileStopping(Effect.andThen(setLifetime, api.resume(name))).pipe(
      Effect.catchIf(
        (failure) => failure.isGone,
        (failure) =>
          Effect.flatMap(removeIfLost(name, failure), (isLost): Effect.Effect<never, RequestFailed | SandboxGone> =>
            Effect.fail(isLost ? new SandboxGone({ name }) : failure)
          )
      ),
      Effect.catchTag("RequestFailed", (failure) => Effect.fail(unavailable("resume")(failure)))
    )
    return yield* untilStarted(api, "resume", name, resumed)
  })
}

/** Stops a session, and waits for its end. */
const stopSession = (api: Api.Api, vm: Vm) => {
  const session = vm.currentSession()
  return api
    .on("stop", (signal) => session.stop({ signal }), Api.stateChangeDeadline)
    .pipe(
      Effect.asVoid,
      Effect.catchIf(
        (failure) => failure.isAbsent || failure.isOver,
        () => Effect.void
      )
    )
}

/**
 * Removes the automatic snapshots that earlier stops left, except the one with the sandbox's files. The sandbox is
 * requested after the list, so a snapshot made in between is not in the list, and a sandbox that runs by then keeps all.
 */
const removeOldSnapshots = Effect.fnUntraced(function* (api: Api.Api, name: SandboxName) {
  const automatic = (yield* api.snapshots(name)).filter(({ creationMethod }) => creationMethod === "automatic")
  const now = yield* api.get(name)
  if (Option.exists(now, ({ status }) => status !== "stopped")) return
  const current = Option.getOrUndefined(now)?.currentSnapshotId
  for (const { id } of automatic) if (id !== current) yield* api.removeSnapshot(id)
})

const makeStop = ({ api, ports }: Project) =>
  Effect.fnUntraced(function* (name: SandboxName, incarnation?: string) {
    const found = yield* api.get(name)
    if (Option.isNone(found)) return
    const vm = found.value
    const { sessionId, status } = vm.currentSession()
    if (incarnation !== undefined && sessionId !== incarnation) return
    if (status === "pending" || status === "running") {
      yield* ports.breakAll(name)
      yield* stopSession(api, vm)
      yield* api.settled(name)
      // The next stop tries again, and snapshots expire.
      yield* Effect.ignore(removeOldSnapshots(api, name))
    } else if (status === "stopping" || status === "snapshotting") {
      yield* api.settled(name)
    }
    yield* ports.breakAll(name)
  })

/** After a failure it compares the session's timeout, since only the answer may have been lost. */
const makeExtend =
  ({ api, options, vms }: Project) =>
  (name: SandboxName, by: Duration.Duration) =>
    vms.useRunning("extend", name, (session, vm) => {
      const extension = Math.min(Math.ceil(Duration.toMillis(by)), maxLifetime(options) - session.timeout)
      if (extension < minExtension) return Effect.succeed(toSandbox(vm))
      const wanted = session.timeout + extension
      return api
        .on("extend", (signal) => session.extendTimeout(extension, { signal }))
        .pipe(
          Effect.map(() => toSandbox(vm)),
          Effect.catch((failure) =>
            Effect.flatMap(api.get(name), (now) => {
              const extended = Option.filter(now, (one) => {
                const { sessionId, timeout } = one.currentSession()
                return sessionId === session.sessionId && timeout >= wanted
              })
              return Option.isSome(extended) ? Effect.succeed(toSandbox(extended.value)) : Effect.fail(failure)
            })
          )
        )
    })

const toSnapshot = (source: SandboxName, id: string, createdAt: number | Date) =>
  new Snapshot({ id: idOf(id, source), source, createdAt: DateTime.makeUnsafe(createdAt) })

/** Snapshots that Castellan made; Vercel makes automatic ones at every stop. */
const isOwn = ({ creationMethod }: Api.ListedSnapshot) => creationMethod !== "automatic"

const makeSnapshot = ({ api, ports, snapshotExpiration, vms }: Project, resume: ReturnType<typeof makeResume>) => {
  /** The snapshot of one of these sessions, for when only the answer to its creation was lost. */
  const findMade = Effect.fnUntraced(function* (
    name: SandboxName,
    sessions: ReadonlyArray<string>,
    cause: SandboxNotRunning
  ) {
    const all = yield* Effect.mapError(api.snapshots(name), unavailable("snapshot"))
    const made = all.find((one) => isOwn(one) && sessions.includes(one.sourceSessionId))
    return made ?? (yield* new SandboxUnavailable({ operation: "snapshot", retryable: true, cause }))
  })

  /** Vercel snapshots only running sandboxes, and stops them by it. A stopped one is resumed for it. */
  return Effect.fnUntraced(function* (name: SandboxName) {
    const vm = yield* vms.find("snapshot", name)
    if (vm.status !== "running") yield* resume(name, briefLifetime)
    const sessions: Array<string> = []
    const made = yield* vms
      .useRunning("snapshot", name, (session) => {
        sessions.push(session.sessionId)
        return api
          .on(
            "snapshot",
            (signal) => session.snapshot({ expiration: snapshotExpiration, signal }),
            Api.stateChangeDeadline
          )
          .pipe(Effect.map(({ createdAt, snapshotId }) => ({ id: snapshotId, createdAt: createdAt.getTime() })))
      })
      .pipe(Effect.catchTag("SandboxNotRunning", (cause) => findMade(name, sessions, cause)))
    yield* ports.breakAll(name)
    yield* findSettled(api, "snapshot", name)
    yield* Effect.ignore(removeOldSnapshots(api, name))
    return toSnapshot(name, made.id, made.createdAt)
  })
}

/**
 * Removes a sandbox's dependency on a snapshot. If the snapshot stopped the sandbox, only the snapshot has its files:
 * the sandbox is resumed and stopped once, which gives it an automatic snapshot. A caller who resumes it meanwhile sees
 * it stop, and resumes it again.
 */
const detachFromSnapshot = Effect.fnUntraced(function* (api: Api.Api, name: SandboxName, snapshot: string) {
  const vm = Option.getOrUndefined(yield* api.settled(name))
  if (vm === undefined || vm.status === "running" || vm.currentSnapshotId !== snapshot) return
  let isOurs = false
  const setLifetime = api.on("removeSnapshot", (signal) =>
    vm.update({ timeout: Duration.toMillis(briefLifetime) }, { signal })
  )
  const resumed = yield* retryWhileStopping(
    Effect.andThen(
      setLifetime,
      api.resume(name, () => (isOurs = true))
    )
  ).pipe(
    Effect.map(Option.some),
    Effect.catchIf(
      (failure) => failure.isGone,
      (failure) =>
        // The snapshot is the only copy of the files, so it may go only if the sandbox is lost.
        failure.isAbsent || failure.isSnapshotGone
          ? Effect.succeedNone
          : Effect.flatMap(api.get(name), (existing) =>
              Option.isSome(existing) ? Effect.fail(failure) : Effect.succeedNone
            )
    )
  )
  // A sandbox that another caller resumed is in use.
  if (isOurs && Option.isSome(resumed)) yield* Effect.andThen(stopSession(api, resumed.value), api.settled(name))
})

const removeSnapshot = Effect.fnUntraced(function* (api: Api.Api, id: SnapshotId) {
  const { source, vercelId } = parse(id)
  if (source !== undefined && (yield* api.hasSnapshot(vercelId))) yield* detachFromSnapshot(api, source, vercelId)
  yield* api.removeSnapshot(vercelId)
})

const commonPrefix = (one: string, other: string) => {
  let length = 0
  while (length < one.length && one[length] === other[length]) length++
  return one.slice(0, length)
}

const findMany = Effect.fnUntraced(function* (api: Api.Api, names: ReadonlyArray<SandboxName>) {
  if (names.length === 0) return []
  if (names.length === 1) {
    const found = yield* api.get(names[0]!)
    return Option.isSome(found) ? [toSandbox(found.value)] : []
  }
  const sorted = [...names].sort()
  const wanted = new Set<string>(names)
  const listed = yield* api.listed(commonPrefix(sorted[0]!, sorted.at(-1)!), sorted.at(-1)!)
  return listed.filter(({ name }) => wanted.has(name)).map(fromListing)
})

const make = Effect.fnUntraced(function* (sdk: Api.Sdk, options: VercelOptions) {
  const { outputKept: requestedOutput = 64 * 1024 * 1024, region, vcpus = 2 } = options
  const api = Api.make(sdk, options)
  const snapshotExpiration = Duration.toMillis(Duration.days(options.keptDays ?? 30))
  const machine: Api.CreateParams = {
    resources: { vcpus },
    snapshotExpiration,
    ...(region !== undefined && { region })
  }
  const vms = yield* SandboxVms.make(api, machine)
  const silenceTimeout = options.silenceTimeout ?? Deadline.defaultSilence
  const scripts = ScriptRunner.make(api, silenceTimeout)
  const outputKept = requestedOutput - (requestedOutput % outputBlockSize)
  const commands = Commands.make(vms, scripts, outputKept)
  const files = Files.make(api, vms, scripts, silenceTimeout)
  const ports = Ports.make(api, vms, scripts)
  const project: Project = { options, api, vms, ports, machine, snapshotExpiration }
  const resume = makeResume(project)
  const stop = makeStop(project)

  return SandboxProvider.of({
    supports: { name: "vercel", isolation: "vm", snapshotStops: true, outputKept, sharesPorts: false },
    find: (name) => Effect.mapBoth(api.get(name), { onSuccess: Option.map(toSandbox), onFailure: unavailable("find") }),
    findMany: (names) => Effect.mapError(findMany(api, names), unavailable("findMany")),
    create: makeCreate(project),
    resume,
    stop: (name, only) => Effect.mapError(stop(name, only?.incarnation), unavailable("stop")),
    remove: (name) =>
      ports
        .breakAll(name)
        .pipe(
          Effect.andThen(retryWhileStopping(api.remove(name))),
          Effect.andThen(removeOldSnapshots(api, name)),
          Effect.mapError(unavailable("remove"))
        ),
    extend: makeExtend(project),
    snapshot: makeSnapshot(project, resume),
    snapshots: (source) =>
      Effect.mapBoth(api.snapshots(source), {
        onSuccess: (all) => all.filter(isOwn).map(({ createdAt, id }) => toSnapshot(source, id, createdAt)),
        onFailure: unavailable("snapshots")
      }),
    removeSnapshot: (id) => Effect.mapError(removeSnapshot(api, id), unavailable("removeSnapshot")),
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

const loadSdk = importOptional(
  "@vercel/sandbox",
  "use the Vercel provider",
  (): Promise<Api.Sdk> => import("@vercel/sandbox")
).pipe(Effect.mapError(({ message }) => new VercelUnavailable({ message })))

/** Sandboxes at Vercel. Fails if an option is wrong or the package `@vercel/sandbox` is not installed. */
export const layer = (options: VercelOptions): Layer.Layer<SandboxProvider, VercelUnavailable> =>
  Layer.effect(
    SandboxProvider,
    Effect.gen(function* () {
      yield* checkOptions(options)
      return yield* make(yield* loadSdk, options)
    })
  )

/** Configured by VERCEL_TOKEN, VERCEL_TEAM_ID, VERCEL_PROJECT_ID and the variables named CASTELLAN_VERCEL_…. */
export const layerConfig: Layer.Layer<SandboxProvider, VercelUnavailable> = Layer.unwrap(Effect.map(fromConfig, layer))
