import { Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { Digest } from "effect/crypto/Digest"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { AccountId } from "../identity/Account.ts"
import type { AccountScope } from "../identity/AccountScope.ts"
import { permanent } from "../FailureReason.ts"
import { isExpired } from "../lifecycle/Lease.ts"
import type { Page, PageOf } from "../Page.ts"
import { workspacePath } from "../repo/Checkout.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import { Command } from "../sandbox/Command.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import { SandboxNotRunning, SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { SandboxQuotaReached } from "../sandbox/SandboxQuota.ts"
import type { CommandRequest } from "../task/CommandRun.ts"
import type { TaskRun } from "../task/TaskRun.ts"
import { TaskRuns } from "../task/TaskRuns.ts"
import { uuidOf } from "../uuidOf.ts"
import { ImageBuilds } from "./ImageBuilds.ts"
import { lostReason, SessionTransition, stateOf } from "./SessionLifecycle.ts"
import { Lifecycle, Session, SessionId, type SessionStatus, unopened } from "./Session.ts"
import {
  lastFailure,
  notProvisioned,
  SessionNotProvisioned,
  type SessionRepoUnusable,
  SessionSandboxes,
  type RunningSession
} from "./SessionSandboxes.ts"
import { type SessionChange, SessionStore } from "./SessionStore.ts"

/** There is no session of that id. */
export class SessionNotFound extends Schema.TaggedError<SessionNotFound>()("SessionNotFound", { id: Schema.String }) {}

/** The session is another account's. */
export class SessionForbidden extends Schema.TaggedError<SessionForbidden>()("SessionForbidden", {
  id: SessionId,
  owner: AccountId
}) {}

/** The session was put away; taken out again it can be opened. */
export class SessionArchived extends Schema.TaggedError<SessionArchived>()("SessionArchived", { id: SessionId }) {}

/** The URL names no repository that a session may have. */
export class RepoRefused extends Schema.TaggedError<RepoRefused>()("RepoRefused", {}) {}

/** The session works on another repository. */
export class RepoDiffers extends Schema.TaggedError<RepoDiffers>()("RepoDiffers", { id: SessionId }) {}

type Hidden = SessionForbidden | SessionNotFound

/** A session to be. */
export interface NewSession {
  readonly title: string | null
  readonly repo: string | null
  readonly organization: AccountId | null
  /** Makes asking repeatable: the same nonce gives the same session. */
  readonly nonce: Option.Option<string>
}

/** How a session's sandbox was found by whoever asked whether it is there. */
export interface Reconnected {
  readonly session: Session
  readonly status: "connected" | "expired" | "no_sandbox"
}

/** What a session is called that nobody named. */
const untitled = "New session"

/** How long a look at the provider may take when somebody wants to reconnect. */
const probe = Duration.seconds(15)

/** Whether the session's sandbox can be used now, as far as is known. */
export const isUp = ({ lifecycle }: Session, now: DateTime.Utc): boolean =>
  lifecycle.state === "active" &&
  lifecycle.sandboxExpiresAt !== null &&
  DateTime.isGreaterThan(lifecycle.sandboxExpiresAt, now)

/** Whether there are files that the next open brings back. */
export const hasSnapshot = (session: Session, now: DateTime.Utc): boolean =>
  session.lifecycle.sandbox !== null && !session.lifecycle.needsCheckout && !isUp(session, now)

/** Sessions of accounts: one sandbox each, that sleeps, wakes, and keeps its name. */
export class Sessions extends Context.Service<
  Sessions,
  {
    readonly create: (scope: AccountScope, wanted: NewSession) => Effect.Effect<Session, RepoRefused>
    readonly get: (scope: AccountScope, id: SessionId) => Effect.Effect<Session, Hidden>
    /** The sessions of the scope's account, newest first. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<Session>>
    /** Changes title and status. Putting it away stops its sandbox and keeps its files; taking it out wakes nothing. */
    readonly change: (
      scope: AccountScope,
      id: SessionId,
      change: { readonly title?: string; readonly status?: SessionStatus }
    ) => Effect.Effect<Session, Hidden>
    /**
     * The session's sandbox, running: the one there is, or woken with its files, or made anew. However many ask at
     * once, there is one, and all get it. `repo` binds a session that has none. One that sleeps or is new is refused
     * where as many of the account's are awake as may be; opens of several at the very same moment may exceed that.
     */
    readonly open: (
      scope: AccountScope,
      id: SessionId,
      repo: string | null
    ) => Effect.Effect<
      RunningSession,
      | Hidden
      | RepoDiffers
      | RepoRefused
      | SandboxQuotaReached
      | SandboxUnavailable
      | SessionArchived
      | SessionNotProvisioned
      | SessionRepoUnusable
    >
    /**
     * A sandbox for once, with a repository: nobody can come back to it, and it goes for good when it is idle. It is
     * counted and refused like that of any other session.
     */
    readonly openOnce: (
      scope: AccountScope,
      repo: string,
      nonce: Option.Option<string>
    ) => Effect.Effect<
      RunningSession,
      RepoRefused | SandboxQuotaReached | SandboxUnavailable | SessionNotProvisioned | SessionRepoUnusable
    >
    /** Whether its sandbox is still there. Wakes nothing; what it finds out for certain is written. */
    readonly reconnect: (scope: AccountScope, id: SessionId) => Effect.Effect<Reconnected, Hidden>
    /** Moves the moment at which the session is idle. */
    readonly recordActivity: (scope: AccountScope, id: SessionId) => Effect.Effect<Session, Hidden | SandboxNotRunning>
    /** Gives its sandbox more time: the usual extension if it is not said how much; a provider may have less to give. */
    readonly extend: (
      scope: AccountScope,
      id: SessionId,
      by: Duration.Duration | null
    ) => Effect.Effect<
      { readonly session: Session; readonly by: Duration.Duration },
      Hidden | SandboxNotRunning | SandboxUnavailable
    >
    /** Puts its sandbox to sleep now; tells whether there was anything to stop. */
    readonly hibernate: (
      scope: AccountScope,
      id: SessionId
    ) => Effect.Effect<{ readonly session: Session; readonly stopped: boolean }, Hidden | SandboxUnavailable>
    /**
     * Queues a command in its sandbox, which stays awake for it. It runs in the working tree, and a relative `cwd` is
     * relative to that. The same nonce gives the same run.
     */
    readonly run: (
      scope: AccountScope,
      id: SessionId,
      wanted: CommandRequest
    ) => Effect.Effect<TaskRun, Hidden | SandboxNotRunning>
  }
>()("domain/session/Sessions") {
  static readonly layer = (options: {
    /** Sessions of an account that may be awake at once; sandboxes of its own are not among them. */
    readonly liveAtMost: number
  }) => Layer.effect(Sessions, make(options.liveAtMost))
}

/** The name of a session's sandbox, made once and then written down. */
const nameFor = (id: SessionId): SandboxName => SandboxName.make(`ses_${id.replaceAll("-", "")}`)

const make = Effect.fnUntraced(function* (liveAtMost: number) {
  const store = yield* SessionStore
  const held = yield* SessionSandboxes
  const builds = yield* ImageBuilds
  const provider = yield* SandboxProvider
  const runs = yield* TaskRuns
  const random = yield* SecureRandom
  const digest = yield* Digest

  const get = Effect.fn("Sessions.get")(function* (scope: AccountScope, id: SessionId) {
    const own = yield* store.get(scope, id)
    if (Option.isSome(own)) return own.value
    const owner = yield* store.ownerOf(id)
    return Option.isSome(owner)
      ? yield* new SessionForbidden({ id, owner: owner.value })
      : yield* new SessionNotFound({ id })
  })

  const checked = Effect.fnUntraced(function* (
    { account }: AccountScope,
    organization: AccountId | null,
    repo: string
  ) {
    if (Option.isNone(yield* held.repoOf({ account, organization, repo }))) return yield* new RepoRefused()
  })

  const add = Effect.fnUntraced(function* (scope: AccountScope, wanted: NewSession, ephemeral: boolean) {
    if (wanted.repo !== null) yield* checked(scope, wanted.organization, wanted.repo)
    const now = yield* DateTime.now
    const session = new Session({
      id: SessionId.make(
        Option.isSome(wanted.nonce) ? yield* uuidOf(digest, `session ${wanted.nonce.value}`) : yield* random.uuidV4()
      ),
      account: scope.account,
      title: wanted.title ?? untitled,
      status: "running",
      organization: wanted.organization,
      repo: wanted.repo === null ? null : held.currentUrl(wanted.repo),
      ephemeral,
      createdAt: now,
      updatedAt: now,
      // What is not meant to stay is looked at if nobody ever comes to open it.
      lifecycle: ephemeral ? new Lifecycle({ ...unopened, nextCheckAt: yield* held.newLeaseExpiry }) : unopened
    })
    const row = yield* store.add(scope, session)
    return Option.isSome(row) ? row.value : yield* Effect.die(new Error("a new session's id is another account's"))
  })

  /** The session with the repository it is opened with. */
  const bound = Effect.fnUntraced(function* (scope: AccountScope, session: Session, given: string | null) {
    if (given === null) return session
    const url = held.currentUrl(given)
    yield* checked(scope, session.organization, url)
    if (session.repo === null) {
      const changed = yield* store.change(scope, session.id, { repo: url }, yield* DateTime.now)
      if (Option.isNone(changed)) return yield* new SessionNotFound({ id: session.id })
      session = changed.value
    }
    return session.repo !== null && sameRepo(held.currentUrl(session.repo), url)
      ? session
      : yield* new RepoDiffers({ id: session.id })
  })

  /** Uses the sandbox of an active session if it runs, or begins to bring it back. None if somebody was faster. */
  const useOrRestore = Effect.fnUntraced(function* (session: Session, name: SandboxName) {
    const found = yield* provider.find(name)
    if (Option.isSome(found) && found.value.status === "running") {
      const sandbox = yield* held.ensureMinimumLifetime(found.value)
      const used = yield* held.recordActivity(session, sandbox.expiresAt, true)
      return Option.map(used, (session): RunningSession => ({ session, sandbox }))
    }
    const begun = yield* held.apply(
      session,
      SessionTransition.Restore({ leaseExpiresAt: yield* held.newLeaseExpiry, lost: Option.isNone(found) })
    )
    return Option.isSome(begun) ? yield* brought(begun.value) : Option.none<RunningSession>()
  })

  const brought = Effect.fnUntraced(function* (session: Session) {
    return yield* held.provision(session).pipe(
      Effect.tap((up) => builds.requestFor(up.session)),
      Effect.map(Option.some),
      Effect.catchTag("Superseded", () => Effect.succeed(Option.none<RunningSession>()))
    )
  })

  /** Begins to bring up what does not run, if the account may have one more awake. None if somebody was faster. */
  const begin = Effect.fnUntraced(function* (scope: AccountScope, session: Session, move: SessionTransition) {
    if ((yield* store.countAwake(scope)) >= liveAtMost) {
      // It may be among those that were counted: then whoever was faster has brought it up.
      const { lifecycle } = yield* get(scope, session.id)
      if (lifecycle.version !== session.lifecycle.version) return Option.none<RunningSession>()
      return yield* new SandboxQuotaReached({ account: scope.account, limit: liveAtMost })
    }
    const begun = yield* held.apply(session, move)
    return Option.isSome(begun) ? yield* brought(begun.value) : Option.none<RunningSession>()
  })

  /** Takes over work whose lease has expired, or waits for a change by the worker that holds it. */
  const resumeOrAwait = Effect.fnUntraced(function* (session: Session) {
    if (!isExpired(session.lifecycle.nextCheckAt, yield* DateTime.now)) {
      yield* held.awaitChange(session.id)
      return Option.none<RunningSession>()
    }
    const mine = yield* held.apply(
      session,
      SessionTransition.TakeOverLease({ leaseExpiresAt: yield* held.newLeaseExpiry })
    )
    if (Option.isNone(mine)) return Option.none<RunningSession>()
    if (stateOf(mine.value) !== "hibernating") return yield* brought(mine.value)
    yield* held.hibernate(mine.value, null).pipe(Effect.catchTag("Superseded", () => Effect.void))
    return Option.none<RunningSession>()
  })

  const attempt = Effect.fnUntraced(function* (scope: AccountScope, session: Session) {
    const { sandbox } = session.lifecycle
    const stage = stateOf(session)
    switch (stage) {
      case "none":
        return yield* begin(
          scope,
          session,
          SessionTransition.Provision({ sandbox: nameFor(session.id), leaseExpiresAt: yield* held.newLeaseExpiry })
        )
      case "hibernated":
      case "failed":
        return yield* begin(
          scope,
          session,
          SessionTransition.Restore({ leaseExpiresAt: yield* held.newLeaseExpiry, lost: false })
        )
      case "active":
        return yield* useOrRestore(session, sandbox!)
      case "provisioning":
      case "restoring":
      case "hibernating":
        return yield* resumeOrAwait(session)
      case "archived":
        return yield* new SessionArchived({ id: session.id })
    }
  })

  const isBusy = (session: Session) => ["provisioning", "restoring"].includes(stateOf(session))

  const bringUp = Effect.fnUntraced(function* (scope: AccountScope, first: Session) {
    let session = first
    while (true) {
      if (session.status === "archived") return yield* new SessionArchived({ id: session.id })
      const up: Option.Option<RunningSession> = yield* attempt(scope, session)
      if (Option.isSome(up)) return up.value
      const before: Session = session
      session = yield* get(scope, session.id)
      // A waiter gets the result of the attempt it joined; it does not start another.
      if (isBusy(before) && stateOf(session) === "failed") return yield* notProvisioned(lastFailure(session))
    }
  })

  const open = Effect.fn("Sessions.open")(function* (scope: AccountScope, id: SessionId, repo: string | null) {
    const session = yield* get(scope, id)
    if (session.status === "archived") return yield* new SessionArchived({ id })
    return yield* bringUp(scope, yield* bound(scope, session, repo))
  })

  const openOnce = Effect.fn("Sessions.openOnce")(function* (
    scope: AccountScope,
    repo: string,
    nonce: Option.Option<string>
  ) {
    const wanted = { title: null, repo, organization: null, nonce }
    const session = yield* add(scope, wanted, true)
    return yield* bringUp(scope, session).pipe(
      Effect.catchTags({
        SessionArchived: () => new SessionNotProvisioned({ reason: ended }),
        SessionForbidden: () => new SessionNotProvisioned({ reason: ended }),
        SessionNotFound: () => new SessionNotProvisioned({ reason: ended })
      })
    )
  })

  /** What is to be written of a session whose sandbox does not run. Whoever brings it up finds out without our help. */
  const newsOf = (session: Session, found: Option.Option<Sandbox>): Option.Option<SessionTransition> => {
    const stage = stateOf(session)
    if (Option.isSome(found)) {
      return stage === "active"
        ? Option.some(SessionTransition.Hibernated({ reason: found.value.reason }))
        : Option.none()
    }
    return session.lifecycle.needsCheckout || stage === "restoring"
      ? Option.none()
      : Option.some(SessionTransition.MarkLost({ reason: lostReason }))
  }

  const reconnect = Effect.fn("Sessions.reconnect")(function* (scope: AccountScope, id: SessionId) {
    const session = yield* get(scope, id)
    const name = session.lifecycle.sandbox
    if (name === null) return { session, status: "no_sandbox" as const }
    const seen = yield* provider.find(name).pipe(Effect.timeout(probe), Effect.option)
    // A provider that did not answer says nothing about the sandbox.
    if (Option.isNone(seen)) {
      return { session, status: isUp(session, yield* DateTime.now) ? ("connected" as const) : ("expired" as const) }
    }
    const found = seen.value
    if (Option.isSome(found) && found.value.status === "running") {
      return { session, status: stateOf(session) === "active" ? ("connected" as const) : ("expired" as const) }
    }
    const news = newsOf(session, found)
    const known = Option.isNone(news) ? Option.none<Session>() : yield* held.apply(session, news.value)
    return { session: Option.getOrElse(known, () => session), status: "expired" as const }
  })

  /** Does something with an active session, again on the latest row after a lost race. */
  const whileActive = <A, E>(
    scope: AccountScope,
    id: SessionId,
    doing: (session: Session, name: SandboxName, expiresAt: DateTime.Utc) => Effect.Effect<Option.Option<A>, E>
  ) =>
    Effect.gen(function* () {
      while (true) {
        const session = yield* get(scope, id)
        const { sandbox, sandboxExpiresAt, state } = session.lifecycle
        if (state !== "active" || sandbox === null || sandboxExpiresAt === null) {
          return yield* new SandboxNotRunning({ name: sandbox ?? nameFor(id), reason: session.lifecycle.error })
        }
        const done: Option.Option<A> = yield* doing(session, sandbox, sandboxExpiresAt)
        if (Option.isSome(done)) return done.value
      }
    })

  const recordActivity = Effect.fn("Sessions.recordActivity")((scope: AccountScope, id: SessionId) =>
    whileActive(scope, id, (session, _, expiresAt) => held.recordActivity(session, expiresAt, true))
  )

  const extend = Effect.fn("Sessions.extend")(function* (
    scope: AccountScope,
    id: SessionId,
    wanted: Duration.Duration | null
  ) {
    const asked = wanted ?? held.times.extension
    return yield* whileActive(scope, id, (session, name, before) =>
      provider.extend(name, asked).pipe(
        Effect.catchTag("SandboxGone", () => new SandboxNotRunning({ name, reason: null })),
        Effect.flatMap(({ expiresAt }) => {
          const given = Math.max(0, expiresAt.epochMilliseconds - before.epochMilliseconds)
          const by = Duration.min(asked, Duration.millis(given))
          return Effect.map(
            recordActivityWithRetry(scope, session, expiresAt),
            Option.map((session) => ({ session, by }))
          )
        })
      )
    )
  })

  /** Retries only the write: the provider has extended the sandbox already and must not be asked again. */
  const recordActivityWithRetry = Effect.fnUntraced(function* (
    scope: AccountScope,
    first: Session,
    expiresAt: DateTime.Utc
  ) {
    let session = first
    while (stateOf(session) === "active") {
      const used = yield* held.recordActivity(session, expiresAt, true)
      if (Option.isSome(used)) return used
      const now: Option.Option<Session> = yield* store.get(scope, session.id)
      if (Option.isNone(now)) return now
      session = now.value
    }
    return Option.none<Session>()
  })

  const hibernate = Effect.fn("Sessions.hibernate")(function* (scope: AccountScope, id: SessionId) {
    let begun = false
    while (true) {
      const session: Session = yield* get(scope, id)
      const stage = stateOf(session)
      // Whoever went on with it has stopped it, too; what was begun since then is not what we were asked to stop.
      if (begun && stage !== "hibernating") return { session, stopped: true }
      switch (stage) {
        case "none":
        case "hibernated":
        case "archived":
        case "failed":
          return { session, stopped: false }
        case "active": {
          const until = yield* held.newLeaseExpiry
          const mine = yield* held.apply(
            session,
            SessionTransition.Hibernate({ leaseExpiresAt: until, reason: "Its owner put it to sleep" })
          )
          if (Option.isNone(mine)) break
          begun = true
          yield* held.hibernate(mine.value, null).pipe(Effect.catchTag("Superseded", () => Effect.void))
          break
        }
        case "provisioning":
        case "restoring":
        case "hibernating":
          yield* resumeOrAwait(session).pipe(
            Effect.catchTags({ SessionNotProvisioned: () => Effect.void, SessionRepoUnusable: () => Effect.void })
          )
      }
    }
  })

  const archive = Effect.fnUntraced(function* (session: Session) {
    // It may be taken over at once: by us, or by the reconciler if the provider does not answer.
    const put = yield* held.apply(session, SessionTransition.Archive({ leaseExpiresAt: yield* held.newLeaseExpiry }))
    if (Option.isSome(put) && stateOf(put.value) === "hibernating") {
      yield* Effect.ignore(held.hibernate(put.value, "It was put away"))
    }
    return put
  })

  const withStatus = Effect.fnUntraced(function* (scope: AccountScope, id: SessionId, status: SessionStatus) {
    while (true) {
      const session = yield* get(scope, id)
      if (status === session.status) return session
      if (status === "archived") {
        // Once it was put away it may be taken out again, by somebody else, before its sandbox has stopped.
        if (Option.isSome(yield* archive(session))) return yield* get(scope, id)
      } else if (session.status === "archived") yield* held.apply(session, SessionTransition.Unarchive())
      else yield* store.change(scope, id, { status }, yield* DateTime.now)
    }
  })

  const change = Effect.fn("Sessions.change")(function* (
    scope: AccountScope,
    id: SessionId,
    { status, title }: { readonly title?: string; readonly status?: SessionStatus }
  ) {
    yield* get(scope, id)
    const described: SessionChange = title === undefined ? {} : { title }
    if (title !== undefined) yield* store.change(scope, id, described, yield* DateTime.now)
    return status === undefined ? yield* get(scope, id) : yield* withStatus(scope, id, status)
  })

  const run = Effect.fn("Sessions.run")(function* (scope: AccountScope, id: SessionId, wanted: CommandRequest) {
    // First the deadlines move, then the run is queued: who would put the sandbox to sleep sees one or the other.
    const { lifecycle } = yield* whileActive(scope, id, (session, name, expiresAt) =>
      held.ensureMinimumLifetime({ name, expiresAt }).pipe(
        Effect.orElseSucceed(() => ({ expiresAt })),
        Effect.flatMap((sandbox) => held.recordActivity(session, sandbox.expiresAt, true))
      )
    )
    const { command } = wanted
    const inTree = lifecycle.workspace ? new Command({ ...command, cwd: workspacePath(command.cwd) }) : command
    return yield* runs.startCommand(scope, lifecycle.sandbox!, { ...wanted, command: inTree })
  })

  return Sessions.of({
    create: (scope, wanted) => add(scope, wanted, false),
    get,
    list: store.list,
    change,
    open,
    openOnce,
    reconnect,
    recordActivity,
    extend,
    hibernate,
    run
  })
})

const ended = permanent("session_ended", "The session ended while it was opened")

/** Whether two URLs name one repository. */
const sameRepo = (known: string, url: string): boolean => {
  const bare = (text: string) => text.toLowerCase().replace(/\.git$/, "")
  return bare(known) === bare(url)
}
