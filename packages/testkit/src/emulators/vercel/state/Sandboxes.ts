/** Handles the routes of sandboxes. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Clock, Effect, FiberMap, Option, Schema, Semaphore } from "effect"
import { badRequest, json, notFound, ApiError, snapshotNotFound } from "../wire/responses.ts"
import * as serializers from "../wire/serializers.ts"
import { randomId, isUsable, type SandboxModel, type Owner, type Settings } from "./models.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { paginate } from "../wire/pages.ts"
import { type EmulatorRequest, keyOf, type EmulatorState, sandboxOf, unavailable } from "./EmulatorState.ts"
import { seed, type Source, sourceOf } from "./Sources.ts"
import { applySettings, decodeBody, defaultSettings, SandboxRequest } from "../wire/requestSchemas.ts"

/** The response with a sandbox and its session. */
const withSession = (state: EmulatorState, one: SandboxModel, resumed: boolean) =>
  json({
    sandbox: serializers.sandbox(one, state.home),
    session: serializers.session(one.session, state.home),
    routes: one.routes,
    resumed
  })

const withoutSession = (state: EmulatorState, one: SandboxModel) =>
  json({ sandbox: serializers.sandbox(one, state.home), routes: one.routes })

/** Names that collide with paths of the API. */
const taken = new Set(["sessions", "snapshots", "drives"])

const words = ["amber", "brisk", "calm", "dusty", "early", "fair", "jade", "rapid", "solid", "tidy"]
const animals = ["crane", "finch", "jay", "lynx", "mole", "newt", "otter", "robin", "stoat", "wren"]
const any = (all: ReadonlyArray<string>) => all[Math.floor(Math.random() * all.length)]

const randomName = () => `${any(words)}-${any(words)}-${any(animals)}-${randomId(6)}`

/** The name of the sandbox at the provider: the same, unless the provider has another sandbox with this name. */
const providerNameOf = Effect.fnUntraced(function* (state: EmulatorState, name: string) {
  const decoded = Schema.decodeUnknownOption(SandboxName)(name)
  if (Option.isNone(decoded) || taken.has(name)) {
    return yield* badRequest("Invalid request: `name` should be letters, digits, `-` and `_`, 64 at most.")
  }
  const found = yield* Effect.mapError(state.provider.find(decoded.value), unavailable)
  const isOurs = [...state.sandboxes.values()].some(({ providerName }) => providerName === decoded.value)
  return isOurs || Option.isSome(found) ? SandboxName.make(`${name.slice(0, 50)}-${randomId(10)}`) : decoded.value
})

const isRunning = ({ session }: SandboxModel) => !Lifecycle.isOver(session)

interface ToBe {
  readonly owner: Owner
  readonly name: string
  readonly settings: Settings
  readonly from: string | undefined
  readonly source?: Source | undefined
}

/** Removes a booted sandbox whose source could not be written. */
const rollBack = (state: EmulatorState, one: SandboxModel) =>
  Effect.gen(function* () {
    yield* Lifecycle.end(state, one.session, { as: "stopping", method: null })
    yield* state.provider.remove(one.providerName)
    state.sessions.delete(one.session.id)
    yield* FiberMap.remove(state.timers, one)
  }).pipe(Effect.ignore)

const createSandbox = Effect.fnUntraced(function* (
  state: EmulatorState,
  { from, name, owner, settings, source }: ToBe
) {
  const now = yield* Clock.currentTimeMillis
  const key = keyOf(owner, name)
  const exists = badRequest(`A sandbox with the name '${name}' already exists for this project.`)
  if (state.sandboxes.has(key)) return yield* exists
  const snapshot = from === undefined ? undefined : state.snapshots.get(from)
  if (from !== undefined && snapshot?.owner.teamId !== owner.teamId) return yield* notFound("Snapshot")
  if (from !== undefined && !isUsable(snapshot, now)) return yield* snapshotNotFound
  if (snapshot !== undefined && snapshot.region !== settings.region) {
    const message = `The snapshot is in ${snapshot.region}, the sandbox in ${settings.region}.`
    return yield* new ApiError({ status: 400, code: "snapshot_region_mismatch", message })
  }
  if ([...state.sandboxes.values()].filter(isRunning).length >= state.plan.maxRunning) {
    const message = `At most ${state.plan.maxRunning} sandboxes may run at once.`
    return yield* new ApiError({ status: 429, code: "rate_limited", message })
  }
  const providerName = yield* providerNameOf(state, name)
  if (state.sandboxes.has(key)) return yield* exists
  const sandbox: Omit<SandboxModel, "session"> = {
    name,
    owner,
    settings,
    createdAt: now,
    updatedAt: now,
    statusUpdatedAt: now,
    providerName,
    currentSnapshotId: from,
    declared: settings.ports,
    sessions: [],
    routes: [],
    lock: Semaphore.makeUnsafe(1)
  }
  const one = sandbox as SandboxModel
  one.session = Lifecycle.pending(one, from, now)
  state.sandboxes.set(key, one)
  const booted = Effect.gen(function* () {
    one.routes = yield* Effect.forEach(settings.ports, (port) => state.bridges.open(providerName, port))
    yield* Lifecycle.boot(state, one.session)
    if (source !== undefined) yield* Effect.tapError(seed(state, one.session, source), () => rollBack(state, one))
  })
  yield* one.lock.withPermit(booted).pipe(
    Effect.tapError(() =>
      Effect.andThen(
        Effect.forEach(one.routes, state.bridges.close, { discard: true }),
        Effect.sync(() => state.sandboxes.delete(key))
      )
    ),
    Effect.uninterruptible
  )
  return withSession(state, one, false)
})

const ownerOf = ({ query, teamId }: EmulatorRequest, body: SandboxRequest = {}): Owner => ({
  teamId,
  projectId: body.projectId ?? query.get("projectId") ?? query.get("project") ?? ""
})

const unsupported = (what: string) => badRequest(`${what} are not part of this emulator.`)

/** Creates a sandbox, empty or from a source. */
export const create = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest) {
  const body = yield* decodeBody(SandboxRequest, request.body)
  if (body.mounts !== undefined) return yield* unsupported("Drives")
  const isSnapshot = body.source?.type === "snapshot"
  return yield* createSandbox(state, {
    owner: ownerOf(request, body),
    name: body.name ?? randomName(),
    from: isSnapshot ? (body.source?.snapshotId ?? "") : undefined,
    source: body.source === undefined || isSnapshot ? undefined : yield* sourceOf(body.source),
    settings: yield* applySettings(body, defaultSettings(), state.plan)
  })
})

/** Creates a sandbox with the settings and the snapshot of another. */
export const fork = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest, source: string) {
  const body = yield* decodeBody(SandboxRequest, request.body)
  const owner = ownerOf(request, body)
  const original = yield* sandboxOf(state, owner, source)
  return yield* createSandbox(state, {
    owner,
    name: body.name ?? randomName(),
    from: original.currentSnapshotId,
    settings: yield* applySettings(body, original.settings, state.plan)
  })
})

/** Returns a sandbox, and resumes it first with `resume=true`. */
export const get = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest, name: string) {
  const one = yield* sandboxOf(state, ownerOf(request), name)
  if (request.query.get("resume") === "true") return withSession(state, one, yield* Lifecycle.resume(state, one))
  // Waits for a sandbox that is being created.
  if (one.session.status === "pending") yield* one.lock.withPermit(Effect.void)
  return withSession(state, yield* sandboxOf(state, ownerOf(request), name), false)
})

/** Lists the sandboxes of a project. */
export const list = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest) {
  const { query } = request
  const sortBy = query.get("sortBy") ?? "createdAt"
  const prefix = query.get("namePrefix") ?? ""
  if (!["createdAt", "name", "statusUpdatedAt"].includes(sortBy)) return yield* badRequest("Invalid sortBy.")
  if (prefix !== "" && sortBy !== "name") return yield* badRequest("namePrefix requires sortBy to be name.")
  const tags = query.getAll("tags").map((tag) => tag.split(/:(.*)/s) as [string, string])
  const { projectId, teamId } = ownerOf(request)
  const own = [...state.sandboxes.values()].filter(
    ({ name, owner, settings }) =>
      owner.teamId === teamId &&
      owner.projectId === projectId &&
      name.startsWith(prefix) &&
      tags.every(([key, value]) => settings.tags[key] === value)
  )
  const by = (one: SandboxModel) => (sortBy === "name" ? one.name : one[sortBy as "createdAt" | "statusUpdatedAt"])
  const { items, pagination } = yield* paginate(own, { query, by, key: ({ name }) => name })
  return json({ sandboxes: items.map((one) => serializers.sandbox(one, state.home)), pagination })
})

/** Changes the settings of a sandbox. New ports are open from its next session on. */
export const update = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest, name: string) {
  const one = yield* sandboxOf(state, ownerOf(request), name)
  const body = yield* decodeBody(SandboxRequest, request.body)
  if (body.mounts !== undefined) return yield* unsupported("Drives")
  const settings = yield* applySettings(body, one.settings, state.plan)
  const now = yield* Clock.currentTimeMillis
  const snapshotId = body.currentSnapshotId
  if (snapshotId !== undefined) {
    const snapshot = state.snapshots.get(snapshotId)
    if (snapshot?.owner.teamId !== one.owner.teamId) return yield* notFound("Snapshot")
    if (!isUsable(snapshot, now)) return yield* snapshotNotFound
    one.currentSnapshotId = snapshotId
  }
  const kept = one.routes.filter(({ port }) => settings.ports.includes(port))
  const dropped = one.routes.filter((route) => !kept.includes(route))
  const added = settings.ports.filter((port) => kept.every((route) => route.port !== port))
  Object.assign(one.settings, settings)
  one.updatedAt = now
  yield* Effect.forEach(dropped, state.bridges.close, { discard: true })
  const opened = yield* Effect.forEach(added, (port) => state.bridges.open(one.providerName, port))
  one.routes = [...kept, ...opened]
  return withoutSession(state, one)
})

/** Deletes a sandbox, and with `deleteOrphanSnapshots` the snapshots that no other sandbox uses. */
export const remove = Effect.fnUntraced(function* (state: EmulatorState, request: EmulatorRequest, name: string) {
  const one = yield* sandboxOf(state, ownerOf(request), name)
  const forgotten = Effect.gen(function* () {
    if (one.session.status === "running") {
      yield* Lifecycle.end(state, one.session, { as: "stopping", method: null })
    }
    yield* Effect.mapError(state.provider.remove(one.providerName), unavailable)
    state.sandboxes.delete(keyOf(one.owner, one.name))
    for (const { id } of one.sessions) state.sessions.delete(id)
    yield* FiberMap.remove(state.timers, one)
    yield* Effect.forEach(one.routes, state.bridges.close, { discard: true })
    if (request.query.get("deleteOrphanSnapshots") === "true") {
      const used = new Set([...state.sandboxes.values()].map(({ currentSnapshotId }) => currentSnapshotId))
      const orphans = [...state.snapshots.values()].filter(
        (snapshot) => one.sessions.some(({ id }) => id === snapshot.sourceSessionId) && !used.has(snapshot.id)
      )
      yield* Effect.forEach(orphans, (snapshot) => Lifecycle.deleteSnapshot(state, snapshot), { discard: true })
    }
  })
  yield* one.lock
    .withPermit(
      Effect.suspend(() =>
        state.sandboxes.get(keyOf(one.owner, one.name)) === one ? forgotten : Effect.fail(notFound("Sandbox"))
      )
    )
    .pipe(Effect.uninterruptible)
  return withoutSession(state, one)
})
