/** Use cases of sessions: each has one sandbox, which is hibernated and restored with its files under the same name. */
import { Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { Digest } from "effect/crypto/Digest"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { userRequested } from "../ChangeReason.ts"
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
import { SessionStore } from "./SessionStore.ts"

/** No session has this id. */
export class SessionNotFound extends Schema.TaggedError<SessionNotFound>()("SessionNotFound", { id: Schema.String }) {}

/** The session belongs to another account. */
export class SessionForbidden extends Schema.TaggedError<SessionForbidden>()("SessionForbidden", {
  id: SessionId,
  owner: AccountId
}) {}

/** The session is archived. It can be opened once it is unarchived. */
export class SessionArchived extends Schema.TaggedError<SessionArchived>()("SessionArchived", { id: SessionId }) {}

/** The URL names no repository that the session may use. */
export class RepoRefused extends Schema.TaggedError<RepoRefused>()("RepoRefused", {}) {}

/** The session already has another repository. */
export class RepoDiffers extends Schema.TaggedError<RepoDiffers>()("RepoDiffers", { id: SessionId }) {}

type SessionAccessError = SessionForbidden | SessionNotFound

type OpenError = SandboxQuotaReached | SandboxUnavailable | SessionNotProvisioned | SessionRepoUnusable

export interface NewSession {
  readonly title: string | null
  readonly repo: string | null
  readonly organization: AccountId | null
  /** Idempotency key: the same nonce gives the same session. */
  readonly nonce: Option.Option<string>
}

/** A session, and whether its sandbox can be used: `expired` if it no longer runs. */
export interface Reconnected {
  readonly session: Session
  readonly status: "connected" | "expired" | "no_sandbox"
}

/** The title of a session that was created without one. */
const untitled = "New session"

/** How long `reconnect` waits for the provider. */
const reconnectTimeout = Duration.seconds(15)

/** Whether the session's sandbox runs, according to its row. */
export const isUp = ({ lifecycle }: Session, now: DateTime.Utc): boolean =>
  lifecycle.state === "active" &&
  lifecycle.sandboxExpiresAt !== null &&
  DateTime.isGreaterThan(lifecycle.sandboxExpiresAt, now)

/** Whether the session's sandbox is stopped and has files that the next `open` restores. */
export const hasSnapshot = (session: Session, now: DateTime.Utc): boolean =>
  session.lifecycle.sandbox !== null && !session.lifecycle.needsCheckout && !isUp(session, now)

export class Sessions extends Context.Service<
  Sessions,
  {
    readonly create: (scope: AccountScope, wanted: NewSession) => Effect.Effect<Session, RepoRefused>
    readonly get: (scope: AccountScope, id: SessionId) => Effect.Effect<Session, SessionAccessError>
    /** The sessions of the scope's account, newest first. */
    readonly list: (scope: AccountScope, page: Page) => Effect.Effect<PageOf<Session>>
    /**
     * Changes the title and the status. The status `archived` stops the session's sandbox and keeps its files; another
     * status unarchives the session and starts nothing.
     */
    readonly change: (
      scope: AccountScope,
      id: SessionId,
      change: { readonly title?: string; readonly status?: SessionStatus }
    ) => Effect.Effect<Session, SessionAccessError>
    /**
     * Returns the session's running sandbox: the one that runs, or one restored with its files, or a new one.
     * Concurrent calls get the same sandbox. `repo` sets the repository of a session that has none. Fails with
     * `SandboxQuotaReached` if the account has reached its limit of awake sessions; concurrent calls for several
     * sessions may exceed that limit.
     */
    readonly open: (
      scope: AccountScope,
      id: SessionId,
      repo: string | null
    ) => Effect.Effect<RunningSession, OpenError | RepoDiffers | RepoRefused | SessionAccessError | SessionArchived>
    /**
     * Creates an ephemeral session with a repository and returns its running sandbox. No call can open the session
     * again, and it is removed with its sandbox once it is idle. It counts towards the limit of awake sessions.
     */
    readonly openOnce: (
      scope: AccountScope,
      repo: string,
      nonce: Option.Option<string>
    ) => Effect.Effect<RunningSession, OpenError | RepoRefused>
    /** Whether the session's sandbox runs. Starts nothing; records that the sandbox is stopped or gone. */
    readonly reconnect: (scope: AccountScope, id: SessionId) => Effect.Effect<Reconnected, SessionAccessError>
    /** Restarts the idle time of an active session. */
    readonly recordActivity: (
      scope: AccountScope,
      id: SessionId
    ) => Effect.Effect<Session, SandboxNotRunning | SessionAccessError>
    /**
     * Extends the sandbox of an active session, by `SessionTimes.extension` if `by` is null. Returns the extension,
     * which the provider may have shortened.
     */
    readonly extend: (
      scope: AccountScope,
      id: SessionId,
      by: Duration.Duration | null
    ) => Effect.Effect<
      { readonly session: Session; readonly by: Duration.Duration },
      SandboxNotRunning | SandboxUnavailable | SessionAccessError
    >
    /** Hibernates the session now; `stopped` is false if nothing had to be stopped. */
    readonly hibernate: (
      scope: AccountScope,
      id: SessionId
    ) => Effect.Effect<
      { readonly session: Session; readonly stopped: boolean },
      SandboxUnavailable | SessionAccessError
    >
    /**
     * Queues a command in the sandbox of an active session, which stays awake until the command ends. The command runs
     * in the working tree, and a relative `cwd` is relative to that. The same nonce gives the same run.
     */
    readonly run: (
      scope: AccountScope,
      id: SessionId,
      wanted: CommandRequest
    ) => Effect.Effect<TaskRun, SandboxNotRunning | SessionAccessError>
  }
>()("domain/session/Sessions") {
  static readonly layer = (options: {
    /** Maximum number of awake sessions of an account. Sandboxes without a session do not count. */
    readonly liveAtMost: number
  }) => Layer.effect(Sessions, make(options.liveAtMost))
}

/** The ports and settings of the functions below. */
interface Services {
  readonly store: SessionStore["Service"]
  readonly sandboxes: SessionSandboxes["Service"]
  readonly builds: ImageBuilds["Service"]
  readonly provider: SandboxProvider["Service"]
  readonly runs: TaskRuns["Service"]
  readonly random: SecureRandom["Service"]
  readonly digest: Digest["Service"]
  readonly liveAtMost: number
}

const make = Effect.fnUntraced(function* (liveAtMost: number) {
  const services: Services = {
    store: yield* SessionStore,
    sandboxes: yield* SessionSandboxes,
    builds: yield* ImageBuilds,
    provider: yield* SandboxProvider,
    runs: yield* TaskRuns,
    random: yield* SecureRandom,
    digest: yield* Digest,
    liveAtMost
  }
  return Sessions.of({
    create: (scope, wanted) => add(services, scope, wanted, false),
    get: (scope, id) => get(services, scope, id),
    list: services.store.list,
    change: (scope, id, wanted) => change(services, scope, id, wanted),
    open: (scope, id, repo) => open(services, scope, id, repo),
    openOnce: (scope, repo, nonce) => openOnce(services, scope, repo, nonce),
    reconnect: (scope, id) => reconnect(services, scope, id),
    recordActivity: (scope, id) => recordActivity(services, scope, id),
    extend: (scope, id, by) => extend(services, scope, id, by),
    hibernate: (scope, id) => hibernate(services, scope, id),
    run: (scope, id, wanted) => run(services, scope, id, wanted)
  })
})

/** The name of a session's sandbox. It is chosen once and stored with the session. */
const nameFor = (id: SessionId): SandboxName => SandboxName.make(`ses_${id.replaceAll("-", "")}`)

const get = Effect.fn("Sessions.get")(function* ({ store }: Services, scope: AccountScope, id: SessionId) {
  const own = yield* store.get(scope, id)
  if (Option.isSome(own)) return own.value
  const owner = yield* store.ownerOf(id)
  return Option.isSome(owner)
    ? yield* new SessionForbidden({ id, owner: owner.value })
    : yield* new SessionNotFound({ id })
})

const ensureRepoAllowed = Effect.fnUntraced(function* (
  { sandboxes }: Services,
  { account }: AccountScope,
  organization: AccountId | null,
  repo: string
) {
  if (Option.isNone(yield* sandboxes.repoOf({ account, organization, repo }))) return yield* new RepoRefused()
})

const add = Effect.fnUntraced(function* (
  services: Services,
  scope: AccountScope,
  wanted: NewSession,
  ephemeral: boolean
) {
  const { digest, random, sandboxes, store } = services
  if (wanted.repo !== null) yield* ensureRepoAllowed(services, scope, wanted.organization, wanted.repo)
  const now = yield* DateTime.now
  const session = new Session({
    id: SessionId.make(
      Option.isSome(wanted.nonce) ? yield* uuidOf(digest, `session ${wanted.nonce.value}`) : yield* random.uuidV4()
    ),
    account: scope.account,
    title: wanted.title ?? untitled,
    status: "running",
    organization: wanted.organization,
    repo: wanted.repo === null ? null : sandboxes.currentUrl(wanted.repo),
    ephemeral,
    createdAt: now,
    updatedAt: now,
    // An ephemeral session is due after one lease, so that it is removed even if the server stops before opening it.
    lifecycle: ephemeral ? new Lifecycle({ ...unopened, nextCheckAt: yield* sandboxes.newLeaseExpiry }) : unopened
  })
  const row = yield* store.add(scope, session)
  return Option.isSome(row) ? row.value : yield* Effect.die(new Error("The new session's id is another account's"))
})

/** The session with the repository that it is opened with. */
const withRepo = Effect.fnUntraced(function* (
  services: Services,
  scope: AccountScope,
  session: Session,
  given: string | null
) {
  const { sandboxes, store } = services
  if (given === null) return session
  const url = sandboxes.currentUrl(given)
  yield* ensureRepoAllowed(services, scope, session.organization, url)
  if (session.repo === null) {
    const changed = yield* store.change(scope, session.id, { repo: url }, yield* DateTime.now)
    if (Option.isNone(changed)) return yield* new SessionNotFound({ id: session.id })
    session = changed.value
  }
  return session.repo !== null && isSameRepo(sandboxes.currentUrl(session.repo), url)
    ? session
    : yield* new RepoDiffers({ id: session.id })
})

/** Uses the running sandbox of an active session, or starts to restore it. None if another write came first. */
const useOrRestore = Effect.fnUntraced(function* (services: Services, session: Session, name: SandboxName) {
  const { provider, sandboxes } = services
  const found = yield* provider.find(name)
  if (Option.isSome(found) && found.value.status === "running") {
    const sandbox = yield* sandboxes.ensureMinimumLifetime(found.value)
    const used = yield* sandboxes.recordActivity(session, sandbox.expiresAt, true)
    return Option.map(used, (session): RunningSession => ({ session, sandbox }))
  }
  const restoring = yield* sandboxes.apply(
    session,
    SessionTransition.Restore({ leaseExpiresAt: yield* sandboxes.newLeaseExpiry, lost: Option.isNone(found) })
  )
  return Option.isSome(restoring) ? yield* provision(services, restoring.value) : Option.none<RunningSession>()
})

/** Provisions a session under this worker's lease. None if another worker took it over. */
const provision = Effect.fnUntraced(function* ({ builds, sandboxes }: Services, session: Session) {
  return yield* sandboxes.provision(session).pipe(
    Effect.tap((running) => builds.requestFor(running.session)),
    Effect.map(Option.some),
    Effect.catchTag("Superseded", () => Effect.succeed(Option.none<RunningSession>()))
  )
})

/** Provisions a session that does not run, if the account may have one more awake. None if another write came first. */
const provisionWithinQuota = Effect.fnUntraced(function* (
  services: Services,
  scope: AccountScope,
  session: Session,
  transition: SessionTransition
) {
  const { liveAtMost, sandboxes, store } = services
  if ((yield* store.countAwake(scope)) >= liveAtMost) {
    // The count may include this session: another call may have provisioned it since it was read.
    const { lifecycle } = yield* get(services, scope, session.id)
    if (lifecycle.version !== session.lifecycle.version) return Option.none<RunningSession>()
    return yield* new SandboxQuotaReached({ account: scope.account, limit: liveAtMost })
  }
  const provisioning = yield* sandboxes.apply(session, transition)
  return Option.isSome(provisioning) ? yield* provision(services, provisioning.value) : Option.none<RunningSession>()
})

/** Takes over work whose lease has expired, or waits for a change by the worker that holds it. */
const resumeOrAwait = Effect.fnUntraced(function* (services: Services, session: Session) {
  const { sandboxes } = services
  if (!isExpired(session.lifecycle.nextCheckAt, yield* DateTime.now)) {
    yield* sandboxes.awaitChange(session.id)
    return Option.none<RunningSession>()
  }
  const taken = yield* sandboxes.apply(
    session,
    SessionTransition.TakeOverLease({ leaseExpiresAt: yield* sandboxes.newLeaseExpiry })
  )
  if (Option.isNone(taken)) return Option.none<RunningSession>()
  if (stateOf(taken.value) !== "hibernating") return yield* provision(services, taken.value)
  yield* sandboxes
    .hibernate(taken.value, { code: "stopped", sentence: null })
    .pipe(Effect.catchTag("Superseded", () => Effect.void))
  return Option.none<RunningSession>()
})

/** One attempt to get the running sandbox of a session. None where the caller has to read the session and try again. */
const attemptOpen = Effect.fnUntraced(function* (services: Services, scope: AccountScope, session: Session) {
  const { sandboxes } = services
  const { sandbox } = session.lifecycle
  const state = stateOf(session)
  switch (state) {
    case "none": {
      const leaseExpiresAt = yield* sandboxes.newLeaseExpiry
      const transition = SessionTransition.Provision({ sandbox: nameFor(session.id), leaseExpiresAt })
      return yield* provisionWithinQuota(services, scope, session, transition)
    }
    case "hibernated":
    case "failed": {
      const transition = SessionTransition.Restore({ leaseExpiresAt: yield* sandboxes.newLeaseExpiry, lost: false })
      return yield* provisionWithinQuota(services, scope, session, transition)
    }
    case "active":
      return yield* useOrRestore(services, session, sandbox!)
    case "provisioning":
    case "restoring":
    case "hibernating":
      return yield* resumeOrAwait(services, session)
    case "archived":
      return yield* new SessionArchived({ id: session.id })
  }
})

const isProvisioning = (session: Session) => ["provisioning", "restoring"].includes(stateOf(session))

const openUntilRunning = Effect.fnUntraced(function* (services: Services, scope: AccountScope, first: Session) {
  let session = first
  while (true) {
    if (session.status === "archived") return yield* new SessionArchived({ id: session.id })
    const running: Option.Option<RunningSession> = yield* attemptOpen(services, scope, session)
    if (Option.isSome(running)) return running.value
    const before: Session = session
    session = yield* get(services, scope, session.id)
    // A waiter gets the result of the attempt it joined; it does not start another.
    if (isProvisioning(before) && stateOf(session) === "failed") return yield* notProvisioned(lastFailure(session))
  }
})

const open = Effect.fn("Sessions.open")(function* (
  services: Services,
  scope: AccountScope,
  id: SessionId,
  repo: string | null
) {
  const session = yield* get(services, scope, id)
  if (session.status === "archived") return yield* new SessionArchived({ id })
  return yield* openUntilRunning(services, scope, yield* withRepo(services, scope, session, repo))
})

const endedReason = permanent("session_ended", "The session ended while it was opened")

const openOnce = Effect.fn("Sessions.openOnce")(function* (
  services: Services,
  scope: AccountScope,
  repo: string,
  nonce: Option.Option<string>
) {
  const session = yield* add(services, scope, { title: null, repo, organization: null, nonce }, true)
  return yield* openUntilRunning(services, scope, session).pipe(
    Effect.catchTags({
      SessionArchived: () => new SessionNotProvisioned({ reason: endedReason }),
      SessionForbidden: () => new SessionNotProvisioned({ reason: endedReason }),
      SessionNotFound: () => new SessionNotProvisioned({ reason: endedReason })
    })
  )
})

/**
 * The transition that records the observed state of a sandbox that does not run. None for a session that is being
 * provisioned or restored, because its worker records that.
 */
const transitionForStopped = (session: Session, found: Option.Option<Sandbox>): Option.Option<SessionTransition> => {
  const state = stateOf(session)
  if (Option.isSome(found)) {
    return state === "active"
      ? Option.some(SessionTransition.Hibernated({ reason: { code: "stopped", sentence: found.value.reason } }))
      : Option.none()
  }
  return session.lifecycle.needsCheckout || state === "restoring"
    ? Option.none()
    : Option.some(SessionTransition.MarkLost({ reason: lostReason }))
}

const reconnect = Effect.fn("Sessions.reconnect")(function* (services: Services, scope: AccountScope, id: SessionId) {
  const { provider, sandboxes } = services
  const session = yield* get(services, scope, id)
  const name = session.lifecycle.sandbox
  if (name === null) return { session, status: "no_sandbox" as const }
  const answer = yield* provider.find(name).pipe(Effect.timeout(reconnectTimeout), Effect.option)
  if (Option.isNone(answer)) {
    // The provider did not answer: the row decides.
    return { session, status: isUp(session, yield* DateTime.now) ? ("connected" as const) : ("expired" as const) }
  }
  const found = answer.value
  if (Option.isSome(found) && found.value.status === "running") {
    return { session, status: stateOf(session) === "active" ? ("connected" as const) : ("expired" as const) }
  }
  const transition = transitionForStopped(session, found)
  const changed = Option.isNone(transition) ? Option.none<Session>() : yield* sandboxes.apply(session, transition.value)
  return { session: Option.getOrElse(changed, () => session), status: "expired" as const }
})

/**
 * Runs `use` on an active session, and again on the latest row whenever it returns none because another write came
 * first.
 */
const whileActive = Effect.fnUntraced(function* <A, E>(
  services: Services,
  scope: AccountScope,
  id: SessionId,
  use: (session: Session, name: SandboxName, expiresAt: DateTime.Utc) => Effect.Effect<Option.Option<A>, E>
) {
  while (true) {
    const session = yield* get(services, scope, id)
    const { sandbox, sandboxExpiresAt, state } = session.lifecycle
    if (state !== "active" || sandbox === null || sandboxExpiresAt === null) {
      return yield* new SandboxNotRunning({ name: sandbox ?? nameFor(id), reason: session.lifecycle.error })
    }
    const result: Option.Option<A> = yield* use(session, sandbox, sandboxExpiresAt)
    if (Option.isSome(result)) return result.value
  }
})

const recordActivity = Effect.fn("Sessions.recordActivity")((services: Services, scope: AccountScope, id: SessionId) =>
  whileActive(services, scope, id, (session, _, expiresAt) =>
    services.sandboxes.recordActivity(session, expiresAt, true)
  )
)

const extend = Effect.fn("Sessions.extend")(function* (
  services: Services,
  scope: AccountScope,
  id: SessionId,
  by: Duration.Duration | null
) {
  const wanted = by ?? services.sandboxes.times.extension
  return yield* whileActive(services, scope, id, (session, name, before) =>
    services.provider.extend(name, wanted).pipe(
      Effect.catchTag("SandboxGone", () => new SandboxNotRunning({ name, reason: null })),
      Effect.flatMap(({ expiresAt }) => {
        const given = Math.max(0, expiresAt.epochMilliseconds - before.epochMilliseconds)
        const by = Duration.min(wanted, Duration.millis(given))
        return Effect.map(
          recordActivityWithRetry(services, scope, session, expiresAt),
          Option.map((session) => ({ session, by }))
        )
      })
    )
  )
})

/** Retries only the write: the provider has extended the sandbox already and must not be asked again. */
const recordActivityWithRetry = Effect.fnUntraced(function* (
  { sandboxes, store }: Services,
  scope: AccountScope,
  first: Session,
  expiresAt: DateTime.Utc
) {
  let session = first
  while (stateOf(session) === "active") {
    const used = yield* sandboxes.recordActivity(session, expiresAt, true)
    if (Option.isSome(used)) return used
    const latest: Option.Option<Session> = yield* store.get(scope, session.id)
    if (Option.isNone(latest)) return latest
    session = latest.value
  }
  return Option.none<Session>()
})

const hibernate = Effect.fn("Sessions.hibernate")(function* (services: Services, scope: AccountScope, id: SessionId) {
  const { sandboxes } = services
  let started = false
  while (true) {
    const session: Session = yield* get(services, scope, id)
    const state = stateOf(session)
    // A worker that took over has stopped the sandbox. An incarnation that started since then must keep running.
    if (started && state !== "hibernating") return { session, stopped: true }
    switch (state) {
      case "none":
      case "hibernated":
      case "archived":
      case "failed":
        return { session, stopped: false }
      case "active": {
        const leaseExpiresAt = yield* sandboxes.newLeaseExpiry
        const hibernating = yield* sandboxes.apply(
          session,
          SessionTransition.Hibernate({
            leaseExpiresAt,
            reason: { code: "user_requested", sentence: "Its owner hibernated it" }
          })
        )
        if (Option.isNone(hibernating)) break
        started = true
        yield* sandboxes
          .hibernate(hibernating.value, userRequested)
          .pipe(Effect.catchTag("Superseded", () => Effect.void))
        break
      }
      case "provisioning":
      case "restoring":
      case "hibernating":
        yield* resumeOrAwait(services, session).pipe(
          Effect.catchTags({ SessionNotProvisioned: () => Effect.void, SessionRepoUnusable: () => Effect.void })
        )
    }
  }
})

const archive = Effect.fnUntraced(function* ({ sandboxes }: Services, session: Session) {
  const leaseExpiresAt = yield* sandboxes.newLeaseExpiry
  const archived = yield* sandboxes.apply(session, SessionTransition.Archive({ leaseExpiresAt, reason: userRequested }))
  if (Option.isSome(archived) && stateOf(archived.value) === "hibernating") {
    // Where this fails the reconciler stops the sandbox, once the lease has expired.
    yield* Effect.ignore(
      sandboxes.hibernate(archived.value, { code: "user_requested", sentence: "Its owner archived it" })
    )
  }
  return archived
})

const setStatus = Effect.fnUntraced(function* (
  services: Services,
  scope: AccountScope,
  id: SessionId,
  status: SessionStatus
) {
  const { sandboxes, store } = services
  while (true) {
    const session = yield* get(services, scope, id)
    if (status === session.status) return session
    if (status === "archived") {
      // Return here: another call may unarchive the session before its sandbox has stopped.
      if (Option.isSome(yield* archive(services, session))) return yield* get(services, scope, id)
    } else if (session.status === "archived") yield* sandboxes.apply(session, SessionTransition.Unarchive())
    else yield* store.change(scope, id, { status }, yield* DateTime.now)
  }
})

const change = Effect.fn("Sessions.change")(function* (
  services: Services,
  scope: AccountScope,
  id: SessionId,
  { status, title }: { readonly title?: string; readonly status?: SessionStatus }
) {
  yield* get(services, scope, id)
  if (title !== undefined) yield* services.store.change(scope, id, { title }, yield* DateTime.now)
  return status === undefined ? yield* get(services, scope, id) : yield* setStatus(services, scope, id, status)
})

const run = Effect.fn("Sessions.run")(function* (
  services: Services,
  scope: AccountScope,
  id: SessionId,
  wanted: CommandRequest
) {
  const { runs, sandboxes } = services
  // Record the activity before queuing the run, so a worker that would hibernate the session sees one or the other.
  const { lifecycle } = yield* whileActive(services, scope, id, (session, name, expiresAt) =>
    sandboxes.ensureMinimumLifetime({ name, expiresAt }).pipe(
      Effect.orElseSucceed(() => ({ expiresAt })),
      Effect.flatMap((sandbox) => sandboxes.recordActivity(session, sandbox.expiresAt, true))
    )
  )
  const { command } = wanted
  const inTree = lifecycle.workspace ? new Command({ ...command, cwd: workspacePath(command.cwd) }) : command
  return yield* runs.startCommand(scope, lifecycle.sandbox!, { ...wanted, command: inTree })
})

/** Whether two URLs name the same repository. */
const isSameRepo = (known: string, url: string): boolean => {
  const normalize = (text: string) => text.toLowerCase().replace(/\.git$/, "")
  return normalize(known) === normalize(url)
}
