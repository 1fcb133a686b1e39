/** Runs a history against three servers over one world in virtual time, and reports violated invariants. */
import { userRequested } from "@castellan/domain/ChangeReason.ts"
import { firstBranch, Repo, RepoName, RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { Command as SandboxCommand } from "@castellan/domain/sandbox/Command.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { type EventCursor, type SandboxEvent, SandboxEventType } from "@castellan/domain/sandbox/SandboxEvent.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { defaultTimes } from "@castellan/domain/session/decide.ts"
import {
  allowedTransitions,
  SessionTransition,
  type SessionState,
  stateOf,
  applySessionTransition
} from "../../src/session/SessionLifecycle.ts"
import { Reconciler } from "@castellan/domain/session/Reconciler.ts"
import type { Session, SessionId } from "@castellan/domain/session/Session.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { author } from "@castellan/testkit/fakes/repo/MemoryAuthor.ts"
import { MemoryRepos } from "@castellan/testkit/fakes/repo/MemoryRepoHost.ts"
import { MemorySandboxes } from "@castellan/testkit/fakes/sandbox/MemorySandbox.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { Cause, Context, DateTime, Duration, Effect, Exit, Layer, Logger, Option, Scope, Stream } from "effect"
import { TestClock } from "effect/testing"
import type { Command, History } from "./History.ts"
import * as Histories from "./History.ts"
import { at, sandboxOf, sessionIn, stages } from "./lifecycles.ts"
import { useCases } from "./useCases.ts"
import * as Weather from "./ProviderFaults.ts"

/** A violated invariant. */
export class Violation extends Error {
  override readonly name = "Violation"
}

/** Ports that break their contracts, to verify that the model detects that. */
export interface Breaking {
  readonly provider?: (real: SandboxProvider["Service"]) => Partial<SandboxProvider["Service"]>
  readonly store?: (real: SessionStore["Service"]) => Partial<SessionStore["Service"]>
  readonly runs?: (real: TaskRunStore["Service"]) => Partial<TaskRunStore["Service"]>
}

const broken = <I, S extends object>(port: Context.Key<I, S>, breaking: ((real: S) => Partial<S>) | undefined) =>
  Layer.effect(
    port,
    Effect.map(port, (real) => ({ ...real, ...breaking?.(real) }))
  )

const life = (breaking: Breaking) =>
  useCases().pipe(
    Layer.provideMerge(
      Layer.mergeAll(
        Faults.around(SessionStore, "SessionStore"),
        Faults.around(BaseImageStore, "BaseImageStore"),
        Faults.around(SandboxProvider, "SandboxProvider"),
        Faults.around(RepoHost, "RepoHost"),
        Faults.around(TaskRunner, "TaskRunner"),
        Faults.around(TaskRunStore, "TaskRunStore")
      )
    ),
    Layer.provide(
      Layer.mergeAll(
        broken(SandboxProvider, breaking.provider),
        Weather.unhurried(SessionStore, ["get", "compareAndSet", "setNextCheck"]).pipe(
          Layer.provide(broken(SessionStore, breaking.store))
        ),
        broken(TaskRunStore, breaking.runs)
      )
    )
  )

interface Server {
  readonly faults: Faults.Faults["Service"]
  readonly scope: Scope.Closeable
  readonly context: Context.Context<Sessions | Reconciler | BaseImages>
  /** Whether a pass of its reconciler is running. */
  isPassing: boolean
}

/** A session as its owner knows it. */
interface Owned {
  readonly id: SessionId
  readonly repo: string | null
  /** What the owner wrote and no event reported as lost. */
  files: Map<SandboxPath, string>
  /** Whether the provider lost its files, and how many losses had been reported before. */
  loss: { readonly told: number; readonly mustBeTold: boolean } | null
  version: number
  known: string
  /** Its possible states, by the events so far. */
  told: ReadonlySet<SessionState>
  losses: number
}

/** The longest time that the remaining servers need to take over a lease and all work begun unnoticed. */
const settling = Duration.minutes(9)

/** Every transition: its start, its event, and its target. */
const leads: ReadonlyArray<readonly [SessionState, SandboxEventType | null, SessionState]> = stages.flatMap((stage) =>
  (["running", "archived"] as const).flatMap((status) =>
    [true, false].flatMap((fresh) =>
      [sandboxOf, null].flatMap((sandbox) => {
        const session = sessionIn(stage, { status, lifecycle: { needsCheckout: fresh, sandbox } })
        return (Object.keys(allowedTransitions) as Array<SessionTransition["_tag"]>).flatMap((tag) =>
          movesOf(tag).flatMap((move) =>
            Option.toArray(
              Option.map(
                applySessionTransition(session, move, at(0)),
                (step) => [stage, step.event?.type ?? null, stateOf(step.after)] as const
              )
            )
          )
        )
      })
    )
  )
)

function movesOf(tag: SessionTransition["_tag"]): ReadonlyArray<SessionTransition> {
  const some = {
    leaseExpiresAt: at(0),
    expiresAt: at(0),
    idleAt: at(0),
    nextCheckAt: at(0),
    reason: tag === "MarkLost" ? "" : userRequested,
    error: "",
    code: "internal_error",
    byOwner: true
  } as const
  const more = { sandbox: sandboxOf, incarnation: "", workspace: false, branch: null }
  return [true, false].map((lost) => ({ _tag: tag, ...some, ...more, lost }) as never)
}

/** The possible states after an event, and after transitions without events. */
const follow = (from: ReadonlySet<SessionState>, type: SandboxEventType): ReadonlySet<SessionState> => {
  const silently = (all: ReadonlySet<SessionState>): ReadonlySet<SessionState> => {
    const more = leads.flatMap(([before, told, after]) => (told === null && all.has(before) ? [after] : []))
    const next = new Set([...all, ...more])
    return next.size === all.size ? all : silently(next)
  }
  return silently(new Set(leads.flatMap(([before, told, after]) => (told === type && from.has(before) ? [after] : []))))
}

const sleep = (seconds: number) => new SandboxCommand({ command: "sleep", args: [`${seconds}`], cwd: null, env: {} })

const everything = { limit: 100, cursor: null }

const publicUrl = "https://public.memory.test"

const make = Effect.fnUntraced(function* (breaking: Breaking) {
  const raw = yield* SandboxProvider
  const sandboxes = yield* MemorySandboxes
  const store = yield* SessionStore
  const images = yield* BaseImageStore
  const events = yield* EventStore
  const runs = yield* TaskRunStore
  const between = yield* Layer.build(Layer.fresh(Weather.layer))
  const faults = Context.get(between, Weather.ProviderFaults)
  const scope = yield* given.scope

  const writer = yield* author
  const commit = yield* writer.commit({ "README.md": "hello" })
  const repo = new Repo({ owner: RepoOwner.make("somebody"), name: RepoName.make("work") })
  yield* (yield* MemoryRepos).publish(repo, yield* writer.bundle({ [firstBranch]: commit }))
  const url = `${publicUrl}/somebody/work`
  const key = ImageKey.make(`${scope.account}/anyone/somebody/work:workspace`)

  const find = (name: SandboxName) => Effect.orDie(raw.find(name))

  const violations: Array<string> = []
  const violate = (what: string) => void violations.push(what)

  const start = Effect.gen(function* () {
    const life_ = yield* Scope.make()
    const faults = yield* Layer.buildWithScope(Layer.fresh(Faults.Faults.layer), life_)
    const context = yield* Layer.buildWithScope(Layer.fresh(life(breaking)), life_).pipe(
      Effect.provideContext(Context.merge(yield* Effect.context<Layer.Services<ReturnType<typeof life>>>(), between)),
      Effect.provideContext(faults)
    )
    return { faults: Context.get(faults, Faults.Faults), scope: life_, context, isPassing: false } as Server
  })

  const kill = (server: Server) => {
    server.faults.die()
    // A pending call on that server ends at its next call.
    return Effect.forkDetach(Scope.close(server.scope, Exit.void))
  }

  const servers: Array<Server> = []
  for (let n = 0; n < Histories.servers; n++) servers.push(yield* start)

  const owned: Array<Owned> = []
  for (let n = 0; n < Histories.sessions; n++) {
    const isLast = n === Histories.sessions - 1
    const wanted = { title: null, repo: isLast ? url : null, organization: null, nonce: Option.none() }
    const created = yield* Effect.provideContext(
      Effect.flatMap(Sessions, (sessions) => sessions.create(scope, wanted)),
      servers[0]!.context
    )
    owned.push({
      id: created.id,
      repo: created.repo,
      files: new Map(),
      loss: null,
      version: -1,
      known: "",
      told: new Set(["none"]),
      losses: 0
    })
  }

  const rowOf = ({ id }: Owned) => Effect.map(store.get(scope, id), Option.getOrThrow)

  /** A server's work for a client, which may get no response. */
  const ask = <A, E>(
    { gap, server }: { readonly gap: number; readonly server: number },
    doing: (sessions: Sessions["Service"]) => Effect.Effect<A, E>,
    then: (answer: A) => Effect.Effect<void> = () => Effect.void
  ) => {
    const { context, scope } = servers[server]!
    return Effect.gen(function* () {
      const exit = yield* Effect.exit(Effect.provideContext(Effect.flatMap(Sessions, doing), context))
      if (Exit.isSuccess(exit)) return yield* then(exit.value)
      for (const reason of exit.cause.reasons) {
        if (Cause.isDieReason(reason) && !(reason.defect instanceof Faults.Crashed)) {
          violate(`a request died: ${String(reason.defect)}`)
        }
      }
    }).pipe(Effect.delay(1), Effect.forkIn(scope), Effect.andThen(TestClock.adjust(gap)))
  }

  const onePass = (server: Server) => {
    if (server.isPassing) return Effect.void
    server.isPassing = true
    return Effect.provideContext(
      Effect.flatMap(Reconciler, ({ pass }) => pass),
      server.context
    ).pipe(
      Effect.exit,
      Effect.andThen(Effect.sync(() => (server.isPassing = false))),
      Effect.delay(1),
      Effect.forkIn(server.scope)
    )
  }

  let turn = 0

  /** Advances the clock; the reconcilers take turns. */
  const wait = Effect.fnUntraced(function* (duration: Duration.Duration) {
    const left = Duration.toMillis(duration)
    const step = left <= 20_000 ? 1000 : left <= 700_000 ? 5000 : 10_000
    for (let passed = 0; passed < left; passed += step) {
      yield* onePass(servers[turn++ % servers.length]!)
      yield* TestClock.adjust(step)
      yield* checkAlways
    }
  })

  const textIn = (name: SandboxName, path: SandboxPath) =>
    Stream.mkString(Stream.decodeText(raw.readFile(name, path))).pipe(Effect.catch(() => Effect.succeed(null)))

  /** What the owner reads right after an open. */
  const seen = Effect.fnUntraced(function* (session: Owned, name: SandboxName, lossBefore: Owned["loss"]) {
    const row = yield* rowOf(session)
    const found = Option.getOrUndefined(yield* find(name))
    if (row.lifecycle.sandbox !== name) violate(`${name} was opened, and ${row.lifecycle.sandbox} is written down`)
    yield* checkEvents
    if (lossBefore !== null && session.loss === lossBefore) {
      if (lossBefore.mustBeTold && session.losses <= lossBefore.told) violate("a loss was not told")
      session.loss = null
    }
    // It may have been stopped again or lost in the meantime; then there is nothing to read.
    if (found?.status !== "running" || session.loss !== null || stateOf(row) !== "active") return
    for (const [path, text] of session.files) {
      const there = yield* textIn(name, path)
      if (there !== text) violate(`${path} should have held ${text}, and held ${there}`)
    }
    if (session.repo !== null && (yield* textIn(name, SandboxPath.make("workspace/README.md"))) !== "hello") {
      violate("the repository was not brought in")
    }
  })

  const open = (asked: { readonly gap: number; readonly server: number }, session: Owned) =>
    Effect.suspend(() => {
      const { loss } = session
      return ask(
        asked,
        (sessions) => sessions.open(scope, session.id, null),
        ({ sandbox }) => seen(session, sandbox.name, loss)
      )
    })

  /** Sandboxes whose incarnation was ended by the provider, or by a test behind the server's back. */
  const endedByProvider = new Set<string>()

  const machineOf = Effect.fnUntraced(function* (session: Owned) {
    const { lifecycle } = yield* rowOf(session)
    if (lifecycle.sandbox === null) return undefined
    return Option.getOrUndefined(yield* find(lifecycle.sandbox))
  })

  const lose = Effect.fnUntraced(function* (session: Owned, how: (name: SandboxName) => Effect.Effect<void>) {
    const machine = yield* machineOf(session)
    if (machine === undefined) return
    const { lifecycle } = yield* rowOf(session)
    yield* checkEvents
    endedByProvider.add(machine.incarnation)
    yield* how(machine.name)
    session.files = new Map()
    session.loss ??= { told: session.losses, mustBeTold: !lifecycle.needsCheckout }
    removed.add(session)
  })
  const removed = new Set<Owned>()

  /** Sandboxes of ephemeral sessions that have a row. */
  const forOnce = new Set<string>()

  let cursor: EventCursor | null = null
  const live = Effect.map(runs.list(scope, everything), ({ rows }) => rows)

  const checkReason = Effect.fnUntraced(function* (session: Owned, event: SandboxEvent) {
    const { lastActivityAt } = (yield* rowOf(session)).lifecycle
    const idleFor = lastActivityAt === null ? Infinity : event.at.epochMilliseconds - lastActivityAt.epochMilliseconds
    if (event.code === "idle_timeout" && idleFor >= 0 && idleFor < Duration.toMillis(defaultTimes.idle)) {
      violate(`it was put to sleep as idle after ${idleFor} ms`)
    }
    for (const run of yield* live) {
      if (run.sandbox !== event.sandbox || run.createdAt.epochMilliseconds >= event.at.epochMilliseconds) continue
      if (run.finishedAt !== null && run.finishedAt.epochMilliseconds <= event.at.epochMilliseconds) continue
      violate(`it was put to sleep (${event.reason}) while ${run.id} was live`)
    }
  })

  const byItself: ReadonlyArray<SandboxEvent["code"]> = ["idle_timeout", "lifetime_over"]

  const checkEvents = Effect.gen(function* () {
    const placed = yield* events.read(scope, cursor, 1000)
    cursor = placed.at(-1)?.cursor ?? cursor
    for (const { event } of placed) {
      if (event.code === null) violate(`${event.type} has no code`)
      const session = owned.find(({ id }) => id === event.session)
      if (session === undefined && event.sandbox !== null) {
        if (event.type === "session.removed") forOnce.delete(event.sandbox)
        else forOnce.add(event.sandbox)
      }
      if (session === undefined || event.type === "session.created") continue
      const next = follow(session.told, event.type)
      if (next.size === 0) violate(`${event.type} was told of a session that was ${[...session.told].join(" or ")}`)
      session.told = next
      if (event.type === "session.lost") session.losses++
      if (event.type === "session.hibernating" && byItself.includes(event.code)) {
        yield* checkReason(session, event)
      }
    }
  })

  const essence = ({ lifecycle, status }: Session) => JSON.stringify([status, { ...lifecycle, nextCheckAt: null }])

  const checkVersion = (session: Owned, row: Session) => {
    const { version } = row.lifecycle
    if (version < session.version) violate(`the version went back from ${session.version} to ${version}`)
    const now = essence(row)
    if (version === session.version && now !== session.known) violate(`version ${version} was written twice`)
    session.version = version
    session.known = now
    if (!session.told.has(stateOf(row))) {
      violate(`it is ${stateOf(row)}, and it was told that it is ${[...session.told].join(" or ")}`)
    }
  }

  /** The invariants at every moment. */
  const checkAlways: Effect.Effect<void> = Effect.gen(function* () {
    yield* checkEvents
    const names = new Set<string>()
    for (const session of owned) {
      const row = yield* rowOf(session)
      checkVersion(session, row)
      const { incarnation, sandbox } = row.lifecycle
      if (sandbox === null) continue
      names.add(sandbox)
      const machine = Option.getOrUndefined(yield* find(sandbox))
      if (stateOf(row) !== "active") continue
      if (machine === undefined && !removed.has(session)) violate("the sandbox of an active session was removed")
      const isOurs = machine?.reason === null && !endedByProvider.has(machine.incarnation)
      if (machine?.status === "stopped" && isOurs) violate("the sandbox of an active session was stopped")
      if (machine?.status === "running" && machine.incarnation !== incarnation && !removed.has(session)) {
        violate(`${machine.incarnation} runs, and ${incarnation} is written down`)
      }
    }
    const image = Option.getOrUndefined(yield* images.find(key))
    if (image?.builder) names.add(image.builder)
    for (const name of sandboxes.names()) {
      if (!names.has(name) && !forOnce.has(name)) violate(`nobody has a row for ${name}`)
    }
    if (violations.length > 0) return yield* Effect.die(new Violation(violations.join("; ")))
  })

  const transitional: ReadonlyArray<SessionState> = ["provisioning", "restoring", "hibernating"]

  /** The invariants after all work had the time that it needs. */
  const checkSettled = Effect.gen(function* () {
    const now = yield* DateTime.now
    for (const session of owned) {
      const row = yield* rowOf(session)
      const stage = stateOf(row)
      const machine = yield* machineOf(session)
      if (transitional.includes(stage)) violate(`it is still ${stage}`)
      if (stage !== "active" && machine?.status === "running") violate(`it is ${stage}, and its sandbox runs`)
      if (stage === "active" && machine?.status !== "running") violate("it is active, and its sandbox does not run")
      const { nextCheckAt: lookAt } = row.lifecycle
      if (lookAt !== null && lookAt.epochMilliseconds < now.epochMilliseconds - 60_000) violate("nobody looked at it")
    }
  })

  const settle = Effect.fnUntraced(function* (duration: Duration.Duration) {
    faults.clear()
    for (const [n, server] of servers.entries()) {
      yield* kill(server)
      servers[n] = yield* start
    }
    yield* wait(duration)
    yield* checkSettled
    yield* checkAlways
  })

  let written = 0

  const happen = Effect.fnUntraced(function* (command: Command) {
    switch (command._tag) {
      case "Open":
        return yield* open(command, owned[command.session]!)
      case "OpenOnce":
        return yield* ask(command, (sessions) => sessions.openOnce(scope, url, Option.none()))
      case "Activity":
        return yield* ask(command, (sessions) => sessions.recordActivity(scope, owned[command.session]!.id))
      case "Run": {
        const wanted = { command: sleep(command.seconds), timeout: Duration.hours(1), nonce: Option.none() }
        return yield* ask(command, (sessions) => sessions.run(scope, owned[command.session]!.id, wanted))
      }
      case "Write": {
        const session = owned[command.session]!
        const machine = yield* machineOf(session)
        if (machine?.status !== "running" || stateOf(yield* rowOf(session)) !== "active" || session.loss) return
        const path = SandboxPath.make(`file-${command.file}`)
        const text = `text-${written++}`
        yield* Effect.orDie(raw.writeFile(machine.name, path, Stream.make(new TextEncoder().encode(text))))
        return void session.files.set(path, text)
      }
      case "Hibernate":
        return yield* ask(command, (sessions) => sessions.hibernate(scope, owned[command.session]!.id))
      case "Archive":
      case "Unarchive": {
        const status = command._tag === "Archive" ? ("archived" as const) : ("running" as const)
        return yield* ask(command, (sessions) => sessions.change(scope, owned[command.session]!.id, { status }))
      }
      case "Reconnect":
        return yield* ask(command, (sessions) => sessions.reconnect(scope, owned[command.session]!.id))
      case "Wait":
        return yield* wait(Duration.seconds(command.seconds))
      case "Expire": {
        const machine = yield* machineOf(owned[command.session]!)
        if (machine === undefined) return
        endedByProvider.add(machine.incarnation)
        return yield* Effect.orDie(raw.stop(machine.name))
      }
      case "Remove":
        return yield* lose(owned[command.session]!, (name) => Effect.orDie(raw.remove(name)))
      case "LoseFiles":
        return yield* lose(owned[command.session]!, (name) => sandboxes.lose(name))
      case "Trouble":
        return faults.plan(command.method, command.trouble)
      case "Cut":
        return faults.cut(command.isCut)
      case "Crash": {
        const { faults } = servers[command.server]!
        return faults.crashAt(faults.calls.length + command.calls, command.moment)
      }
      case "Restart":
        yield* kill(servers[command.server]!)
        servers[command.server] = yield* start
        return
      case "Settle":
        return yield* settle(settling)
    }
  })

  const end = Effect.gen(function* () {
    yield* settle(settling)
    // By then every session has been idle, and no run is live.
    yield* settle(Duration.minutes(55))
    for (const session of owned) {
      const stage = stateOf(yield* rowOf(session))
      if (stage === "active") violate("it does not sleep though nobody uses it")
    }
    for (const session of owned) {
      if ((yield* rowOf(session)).status === "archived") continue
      let isOpened = false
      const { loss } = session
      yield* ask(
        { server: 0, gap: 1000 },
        (sessions) => sessions.open(scope, session.id, null),
        ({ sandbox }) =>
          Effect.andThen(
            seen(session, sandbox.name, loss),
            Effect.sync(() => {
              isOpened = true
            })
          )
      )
      if (!isOpened) violate("it can't be opened though nothing is in the way")
    }
    // The image is built in the meantime.
    yield* wait(Duration.seconds(20))
    yield* Effect.provideContext(
      Effect.flatMap(BaseImages, ({ collect }) => collect),
      servers[0]!.context
    ).pipe(Effect.orDie)
    const image = Option.getOrUndefined(yield* images.find(key))
    const known = image === undefined ? [] : [image.current, ...image.replaced]
    for (const snapshot of sandboxes.snapshots()) {
      if (!known.includes(snapshot)) violate(`nobody has a row for ${snapshot}`)
    }
    const ours = yield* Effect.forEach(owned, rowOf)
    const names = ours.map(({ lifecycle }) => lifecycle.sandbox)
    for (const name of sandboxes.names()) if (!names.includes(name)) violate(`${name} was left behind`)
    yield* checkAlways
  })

  return { happen, checkAlways, end, stop: Effect.forEach(servers, kill) }
})

/** Dies with a `Violation` if the history violates an invariant on the way or at its end. */
export const simulate = (history: History, breaking: Breaking = {}): Effect.Effect<void> =>
  Effect.gen(function* () {
    const model = yield* make(breaking)
    for (const command of history) {
      yield* model.happen(command)
      yield* model.checkAlways
    }
    yield* model.end
    yield* model.stop
  }).pipe(
    Effect.scoped,
    Effect.provide(Layer.mergeAll(Layer.fresh(World.layer), Logger.layer([]))),
    Effect.provide(Layer.fresh(TestClock.layer())),
    Effect.orDie
  ) as Effect.Effect<void>
