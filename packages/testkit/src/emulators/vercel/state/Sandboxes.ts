/** What is asked of sandboxes by their names. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Clock, Effect, FiberMap, Option, Schema, Semaphore } from "effect"
import { badRequest, json, notFound, Refused, snapshotNotFound } from "../wire/Answers.ts"
import * as Bodies from "../wire/Bodies.ts"
import { fresh, isUsable, type KeptSandbox, type Owner, type Settings } from "./Kept.ts"
import * as Lifecycle from "./Lifecycle.ts"
import { paged } from "../wire/Pages.ts"
import { type Asked, keyOf, type Site, sandboxOf, unavailable } from "./Site.ts"
import { seed, type Source, sourceOf } from "./Sources.ts"
import { type Body, bodyOf, object, settled, text, usual } from "../wire/Wanted.ts"

/** A sandbox with its session, as most answers have it. */
const whole = (site: Site, one: KeptSandbox, resumed: boolean) =>
  json({
    sandbox: Bodies.sandbox(one, site.home),
    session: Bodies.session(one.session, site.home),
    routes: one.routes,
    resumed
  })

const alone = (site: Site, one: KeptSandbox) => json({ sandbox: Bodies.sandbox(one, site.home), routes: one.routes })

/** Words of the API: a sandbox of that name could not be asked for. */
const taken = new Set(["sessions", "snapshots", "drives"])

const words = ["amber", "brisk", "calm", "dusty", "early", "fair", "jade", "rapid", "solid", "tidy"]
const animals = ["crane", "finch", "jay", "lynx", "mole", "newt", "otter", "robin", "stoat", "wren"]
const any = (all: ReadonlyArray<string>) => all[Math.floor(Math.random() * all.length)]

const someName = () => `${any(words)}-${any(words)}-${any(animals)}-${fresh(6)}`

/** What the provider is to call it: the same, unless it knows another sandbox by that name. */
const providerNameOf = Effect.fnUntraced(function* (site: Site, name: string) {
  const decoded = Schema.decodeUnknownOption(SandboxName)(name)
  if (Option.isNone(decoded) || taken.has(name)) {
    return yield* badRequest("Invalid request: `name` should be letters, digits, `-` and `_`, 64 at most.")
  }
  const found = yield* Effect.mapError(site.provider.find(decoded.value), unavailable)
  const isOurs = [...site.sandboxes.values()].some(({ providerName }) => providerName === decoded.value)
  return isOurs || Option.isSome(found) ? SandboxName.make(`${name.slice(0, 50)}-${fresh(10)}`) : decoded.value
})

const isRunning = ({ session }: KeptSandbox) => !Lifecycle.isOver(session)

interface ToBe {
  readonly owner: Owner
  readonly name: string
  readonly settings: Settings
  readonly from: string | undefined
  readonly source?: Source | undefined
}

/** Takes back what was booted, and could not be filled. */
const undone = (site: Site, one: KeptSandbox) =>
  Effect.gen(function* () {
    yield* Lifecycle.end(site, one.session, { as: "stopping", method: null })
    yield* site.provider.remove(one.providerName)
    site.sessions.delete(one.session.id)
    yield* FiberMap.remove(site.timers, one)
  }).pipe(Effect.ignore)

const made = Effect.fnUntraced(function* (site: Site, { from, name, owner, settings, source }: ToBe) {
  const now = yield* Clock.currentTimeMillis
  const key = keyOf(owner, name)
  const exists = badRequest(`A sandbox with the name '${name}' already exists for this project.`)
  if (site.sandboxes.has(key)) return yield* exists
  const snapshot = from === undefined ? undefined : site.snapshots.get(from)
  if (from !== undefined && snapshot?.owner.teamId !== owner.teamId) return yield* notFound("Snapshot")
  if (from !== undefined && !isUsable(snapshot, now)) return yield* snapshotNotFound
  if (snapshot !== undefined && snapshot.region !== settings.region) {
    const message = `The snapshot is in ${snapshot.region}, the sandbox in ${settings.region}.`
    return yield* new Refused({ status: 400, code: "snapshot_region_mismatch", message })
  }
  if ([...site.sandboxes.values()].filter(isRunning).length >= site.plan.maxRunning) {
    const message = `At most ${site.plan.maxRunning} sandboxes may run at once.`
    return yield* new Refused({ status: 429, code: "rate_limited", message })
  }
  const providerName = yield* providerNameOf(site, name)
  if (site.sandboxes.has(key)) return yield* exists
  const sandbox: Omit<KeptSandbox, "session"> = {
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
    turn: Semaphore.makeUnsafe(1)
  }
  const one = sandbox as KeptSandbox
  one.session = Lifecycle.pending(one, from, now)
  site.sandboxes.set(key, one)
  const booted = Effect.gen(function* () {
    one.routes = yield* Effect.forEach(settings.ports, (port) => site.bridges.open(providerName, port))
    yield* Lifecycle.boot(site, one.session)
    if (source !== undefined) yield* Effect.tapError(seed(site, one.session, source), () => undone(site, one))
  })
  yield* one.turn.withPermit(booted).pipe(
    Effect.tapError(() =>
      Effect.andThen(
        Effect.forEach(one.routes, site.bridges.close, { discard: true }),
        Effect.sync(() => site.sandboxes.delete(key))
      )
    ),
    Effect.uninterruptible
  )
  return whole(site, one, false)
})

const ownerIn = Effect.fnUntraced(function* ({ query, teamId }: Asked, body: Body) {
  const projectId = (yield* text(body, "projectId")) ?? query.get("projectId") ?? query.get("project") ?? ""
  return { teamId, projectId } satisfies Owner
})

const ownerOf = ({ query, teamId }: Asked): Owner => ({
  teamId,
  projectId: query.get("projectId") ?? query.get("project") ?? ""
})

const unsupported = (what: string) => badRequest(`${what} are not part of this emulator.`)

/** Makes a sandbox: an empty one, or with the files of a source. */
export const create = Effect.fnUntraced(function* (site: Site, asked: Asked) {
  const body = yield* bodyOf(asked.body)
  const owner = yield* ownerIn(asked, body)
  if (body["mounts"] !== undefined) return yield* unsupported("Drives")
  const given = yield* object(body, "source")
  const isSnapshot = given?.["type"] === "snapshot"
  const from = given !== undefined && isSnapshot ? ((yield* text(given, "snapshotId")) ?? "") : undefined
  const source = given === undefined || isSnapshot ? undefined : yield* sourceOf(given)
  const name = (yield* text(body, "name")) ?? someName()
  return yield* made(site, { owner, name, from, source, settings: yield* settled(body, usual(), site.plan) })
})

/** Makes a sandbox with the settings of another, and the files of its snapshot. */
export const fork = Effect.fnUntraced(function* (site: Site, asked: Asked, source: string) {
  const body = yield* bodyOf(asked.body)
  const owner = yield* ownerIn(asked, body)
  const original = yield* sandboxOf(site, owner, source)
  const settings = yield* settled(body, original.settings, site.plan)
  const name = (yield* text(body, "name")) ?? someName()
  return yield* made(site, { owner, name, settings, from: original.currentSnapshotId })
})

/** A sandbox by its name, running if that is wanted. */
export const get = Effect.fnUntraced(function* (site: Site, asked: Asked, name: string) {
  const one = yield* sandboxOf(site, ownerOf(asked), name)
  if (asked.query.get("resume") === "true") return whole(site, one, yield* Lifecycle.resume(site, one))
  // One that is still made is there once it is made.
  if (one.session.status === "pending") yield* one.turn.withPermit(Effect.void)
  return whole(site, yield* sandboxOf(site, ownerOf(asked), name), false)
})

/** The sandboxes of a project. */
export const list = Effect.fnUntraced(function* (site: Site, asked: Asked) {
  const { query } = asked
  const sortBy = query.get("sortBy") ?? "createdAt"
  const prefix = query.get("namePrefix") ?? ""
  if (!["createdAt", "name", "statusUpdatedAt"].includes(sortBy)) return yield* badRequest("Invalid sortBy.")
  if (prefix !== "" && sortBy !== "name") return yield* badRequest("namePrefix requires sortBy to be name.")
  const tags = query.getAll("tags").map((tag) => tag.split(/:(.*)/s) as [string, string])
  const { projectId, teamId } = ownerOf(asked)
  const own = [...site.sandboxes.values()].filter(
    ({ name, owner, settings }) =>
      owner.teamId === teamId &&
      owner.projectId === projectId &&
      name.startsWith(prefix) &&
      tags.every(([key, value]) => settings.tags[key] === value)
  )
  const by = (one: KeptSandbox) => (sortBy === "name" ? one.name : one[sortBy as "createdAt" | "statusUpdatedAt"])
  const { items, pagination } = yield* paged(own, { query, by, key: ({ name }) => name })
  return json({ sandboxes: items.map((one) => Bodies.sandbox(one, site.home)), pagination })
})

/** Changes the settings of a sandbox; ports that are new are there from its next session on. */
export const update = Effect.fnUntraced(function* (site: Site, asked: Asked, name: string) {
  const one = yield* sandboxOf(site, ownerOf(asked), name)
  const body = yield* bodyOf(asked.body)
  if (body["mounts"] !== undefined) return yield* unsupported("Drives")
  const settings = yield* settled(body, one.settings, site.plan)
  const now = yield* Clock.currentTimeMillis
  const snapshotId = yield* text(body, "currentSnapshotId")
  if (snapshotId !== undefined) {
    const snapshot = site.snapshots.get(snapshotId)
    if (snapshot?.owner.teamId !== one.owner.teamId) return yield* notFound("Snapshot")
    if (!isUsable(snapshot, now)) return yield* snapshotNotFound
    one.currentSnapshotId = snapshotId
  }
  const kept = one.routes.filter(({ port }) => settings.ports.includes(port))
  const dropped = one.routes.filter((route) => !kept.includes(route))
  const added = settings.ports.filter((port) => kept.every((route) => route.port !== port))
  Object.assign(one.settings, settings)
  one.updatedAt = now
  yield* Effect.forEach(dropped, site.bridges.close, { discard: true })
  const opened = yield* Effect.forEach(added, (port) => site.bridges.open(one.providerName, port))
  one.routes = [...kept, ...opened]
  return alone(site, one)
})

/** Deletes a sandbox, and if wanted the snapshots that nothing else needs. */
export const remove = Effect.fnUntraced(function* (site: Site, asked: Asked, name: string) {
  const one = yield* sandboxOf(site, ownerOf(asked), name)
  const forgotten = Effect.gen(function* () {
    if (one.session.status === "running") {
      yield* Lifecycle.end(site, one.session, { as: "stopping", method: null })
    }
    yield* Effect.mapError(site.provider.remove(one.providerName), unavailable)
    site.sandboxes.delete(keyOf(one.owner, one.name))
    for (const { id } of one.sessions) site.sessions.delete(id)
    yield* FiberMap.remove(site.timers, one)
    yield* Effect.forEach(one.routes, site.bridges.close, { discard: true })
    if (asked.query.get("deleteOrphanSnapshots") === "true") {
      const used = new Set([...site.sandboxes.values()].map(({ currentSnapshotId }) => currentSnapshotId))
      const orphans = [...site.snapshots.values()].filter(
        (snapshot) => one.sessions.some(({ id }) => id === snapshot.sourceSessionId) && !used.has(snapshot.id)
      )
      yield* Effect.forEach(orphans, (snapshot) => Lifecycle.forget(site, snapshot), { discard: true })
    }
  })
  yield* one.turn
    .withPermit(
      Effect.suspend(() =>
        site.sandboxes.get(keyOf(one.owner, one.name)) === one ? forgotten : Effect.fail(notFound("Sandbox"))
      )
    )
    .pipe(Effect.uninterruptible)
  return alone(site, one)
})
