/** Provisions, restores and hibernates the sandbox of a session, under the lease of one worker. */
import { Clock, Context, DateTime, Duration, Effect, Layer, Option, PubSub, Ref, Schema } from "effect"
import type { ChangeReason } from "../ChangeReason.ts"
import { AccountScope } from "../identity/AccountScope.ts"
import { IdentityStore } from "../identity/IdentityStore.ts"
import { type FailureCode, FailureReason, isCallerError, permanent, transient } from "../FailureReason.ts"
import { annotateIds, trackOutcome, metrics } from "../Metrics.ts"
import { Checkouts, reasonFor, type SyncFailure } from "../repo/Checkouts.ts"
import { encodeReadAs } from "../repo/ReadAs.ts"
import { RepoHost } from "../repo/RepoHost.ts"
import type { BranchName } from "../repo/Repo.ts"
import * as RepoUrl from "../repo/RepoUrl.ts"
import { ImageKey } from "../sandbox/BaseImage.ts"
import { BaseImages } from "../sandbox/BaseImages.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import { SandboxNotRunning, SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { applyIfUnchanged } from "../lifecycle/compareAndSet.ts"
import { newExpiry, whileRenewing } from "../lifecycle/Lease.ts"
import { InternalCause } from "../InternalCause.ts"
import { authorOf } from "./authorOf.ts"
import { nextCheckFor, type SessionTimes } from "./decide.ts"
import {
  type AppliedSessionTransition,
  lostReason,
  sessionMachine,
  SessionTransition,
  stateOf
} from "./SessionLifecycle.ts"
import type { Session, SessionId } from "./Session.ts"
import { repoHoldersOf, type RepoAccess, resolveRepo, type SessionRepo } from "./SessionRepo.ts"
import { SessionStore } from "./SessionStore.ts"

/** The session's sandbox could not be provisioned. The session stores the reason. */
export class SessionNotProvisioned extends Schema.TaggedError<SessionNotProvisioned>()("SessionNotProvisioned", {
  reason: FailureReason,
  cause: InternalCause
}) {}

/** The session's repository can't be checked out: the caller has to change it or use another one. */
export class SessionRepoUnusable extends Schema.TaggedError<SessionRepoUnusable>()("SessionRepoUnusable", {
  reason: FailureReason,
  cause: InternalCause
}) {}

/** The error for a reason: `SessionRepoUnusable` if the caller's repository is the cause. */
export const notProvisioned = (reason: FailureReason, cause?: unknown): SessionNotProvisioned | SessionRepoUnusable =>
  isCallerError(reason) ? new SessionRepoUnusable({ reason, cause }) : new SessionNotProvisioned({ reason, cause })

/** Why the last attempt to provision a session failed, from its row. */
export const lastFailure = ({ lifecycle: { error, errorCode } }: Session): FailureReason => {
  const code = errorCode ?? "internal_error"
  const sentence = error ?? "The sandbox could not be provisioned"
  const reason = permanent(code, sentence)
  return isCallerError(reason) || permanentCodes.includes(code) ? reason : transient(code, sentence)
}

/** Codes of failures that the caller did not cause and a retry does not fix. */
const permanentCodes: ReadonlyArray<FailureCode> = ["checkout_failed", "provider_refused", "repository_host_refused"]

/** Another worker took the session over, or a client archived it: the result of this attempt does not count. */
export class Superseded extends Schema.TaggedError<Superseded>()("Superseded", {}) {}

/** The session may no longer read its repository. */
class RepoForbidden extends Schema.TaggedError<RepoForbidden>()("RepoForbidden", {}) {}

/** A session with its running sandbox. */
export interface RunningSession {
  readonly session: Session
  readonly sandbox: Sandbox
}

/** Suffix of the keys of images with the repository in `~/workspace`. Older images have it in the home directory. */
const workspaceSuffix = ":workspace"

/** Whether this server builds and uses images with this key. Servers from before `~/workspace` use other keys. */
export const hasWorkspace = (key: ImageKey): boolean => key.endsWith(workspaceSuffix)

/**
 * The image that sandboxes of a session boot from: one for each repository of its organization, or of its account.
 * Repositories read with the service's credentials have separate images, so anonymous readers never boot from those.
 */
export const imageKeyOf = (session: Session, { repo, readAs }: SessionRepo): ImageKey =>
  ImageKey.make(
    `${session.organization ?? session.account}/${encodeReadAs(readAs)}/${repo.owner}/${repo.name}${workspaceSuffix}`.toLowerCase()
  )

/**
 * The operations on a session's sandbox, for the worker that holds the session's lease: a client's request or the
 * reconciler. Every write is a compare-and-set on the version that was read; every stop names an incarnation.
 */
export class SessionSandboxes extends Context.Service<
  SessionSandboxes,
  {
    /** The times of a session's lifecycle. */
    readonly times: SessionTimes
    /** Applies a transition to the session as it was read; none if it is not allowed or another write came first. */
    readonly apply: (session: Session, transition: SessionTransition) => Effect.Effect<Option.Option<Session>>
    /** Completes when this process has changed the session, or after a quarter of a second. */
    readonly awaitChange: (id: SessionId) => Effect.Effect<void>
    /** The session's repository; none if it has none or may not read it. */
    readonly repoOf: (
      session: Pick<Session, "account" | "organization" | "repo">
    ) => Effect.Effect<Option.Option<SessionRepo>>
    /** The URL of a repository in its current form; an older server may have stored another form. */
    readonly currentUrl: (url: string) => string
    /** Provisions the sandbox of a session that the caller has put into `provisioning` or `restoring`. */
    readonly provision: (
      session: Session
    ) => Effect.Effect<RunningSession, SessionNotProvisioned | SessionRepoUnusable | Superseded>
    /** Stops the sandbox of a session that the caller has put into `hibernating`. */
    readonly hibernate: (
      session: Session,
      reason: ChangeReason
    ) => Effect.Effect<Session, SandboxUnavailable | Superseded>
    /** Extends a sandbox that would stop before its session can be idle. Returns the sandbox with its new expiry. */
    readonly ensureMinimumLifetime: <A extends Pick<Sandbox, "expiresAt" | "name">>(
      sandbox: A
    ) => Effect.Effect<A | Sandbox, SandboxUnavailable>
    /** When a lease on a session that is taken now expires. */
    readonly newLeaseExpiry: Effect.Effect<DateTime.Utc>
    /** Records a use of the session; none if it is not active or another write came first. */
    readonly recordActivity: (
      session: Session,
      expiresAt: DateTime.Utc,
      byOwner: boolean
    ) => Effect.Effect<Option.Option<Session>>
  }
>()("domain/session/SessionSandboxes") {
  static readonly layer = (options: { readonly times: SessionTimes; readonly repoAccess: RepoAccess }) =>
    Layer.effect(SessionSandboxes, make(options.times, options.repoAccess))
}

/** The ports and settings of the functions below. */
interface Services {
  readonly store: SessionStore["Service"]
  readonly provider: SandboxProvider["Service"]
  readonly images: BaseImages["Service"]
  readonly checkouts: Checkouts["Service"]
  readonly host: RepoHost["Service"]
  readonly identities: IdentityStore["Service"]
  /** The sessions that this process has changed. */
  readonly changes: PubSub.PubSub<SessionId>
  readonly times: SessionTimes
  readonly repoAccess: RepoAccess
}

const make = Effect.fnUntraced(function* (times: SessionTimes, repoAccess: RepoAccess) {
  const services: Services = {
    store: yield* SessionStore,
    provider: yield* SandboxProvider,
    images: yield* BaseImages,
    checkouts: yield* Checkouts,
    host: yield* RepoHost,
    identities: yield* IdentityStore,
    changes: yield* PubSub.unbounded<SessionId>(),
    times,
    repoAccess
  }
  return SessionSandboxes.of({
    times,
    apply: (session, transition) => apply(services, session, transition),
    awaitChange: (id) => awaitChange(services, id),
    repoOf: (session) => repoOf(services, session),
    currentUrl: (url) => RepoUrl.current(services.host.supports, url),
    provision: (session) => provision(services, session),
    hibernate: (session, reason) => hibernate(services, session, reason),
    newLeaseExpiry: newExpiry(times.lease),
    recordActivity: (session, expiresAt, byOwner) => recordActivity(services, session, expiresAt, byOwner),
    ensureMinimumLifetime: (sandbox) => ensureMinimumLifetime(services, sandbox)
  })
})

const apply = Effect.fn("SessionSandboxes.apply")(function* (
  { changes, store }: Services,
  session: Session,
  transition: SessionTransition
) {
  const write = (applied: AppliedSessionTransition) => store.compareAndSet(AccountScope.ofOwner(session), applied)
  const applied = yield* applyIfUnchanged(sessionMachine, write, session, transition)
  if (Option.isSome(applied)) yield* PubSub.publish(changes, session.id)
  return applied
})

const applyOrSupersede = Effect.fnUntraced(function* (
  services: Services,
  session: Session,
  transition: SessionTransition
) {
  const applied = yield* apply(services, session, transition)
  return Option.isSome(applied) ? applied.value : yield* new Superseded()
})

/** How often a waiter reads a session that another process may have changed. */
const pollInterval = Duration.millis(250)

const awaitChange = Effect.fnUntraced(function* ({ changes }: Services, id: SessionId) {
  const subscription: PubSub.Subscription<SessionId> = yield* PubSub.subscribe(changes)
  yield* Effect.repeat(PubSub.take(subscription), { until: (changed) => changed === id }).pipe(
    Effect.timeoutOption(pollInterval)
  )
}, Effect.scoped)

const repoOf = Effect.fnUntraced(function* (
  { host, identities, repoAccess }: Services,
  session: Pick<Session, "account" | "organization" | "repo">
) {
  if (session.repo === null) return Option.none<SessionRepo>()
  return resolveRepo(host.supports, repoAccess, session.repo, yield* repoHoldersOf(identities, session))
})

const recordActivity = Effect.fnUntraced(function* (
  services: Services,
  session: Session,
  expiresAt: DateTime.Utc,
  byOwner: boolean
) {
  const { times } = services
  const now = DateTime.makeUnsafe(yield* Clock.currentTimeMillis)
  const idleAt = DateTime.addDuration(now, times.idle)
  const nextCheckAt = nextCheckFor(times, idleAt, expiresAt, now)
  return yield* apply(services, session, SessionTransition.RecordActivity({ expiresAt, idleAt, nextCheckAt, byOwner }))
})

const ensureMinimumLifetime = Effect.fnUntraced(function* <A extends Pick<Sandbox, "expiresAt" | "name">>(
  { provider, times }: Services,
  sandbox: A
) {
  const neededUntil = DateTime.addDuration(yield* DateTime.now, Duration.sum(times.idle, times.margin))
  if (DateTime.isGreaterThan(sandbox.expiresAt, neededUntil)) return sandbox
  return yield* provider.extend(sandbox.name, times.extension).pipe(
    Effect.catchTags({
      SandboxGone: () => Effect.succeed(sandbox),
      SandboxNotRunning: () => Effect.succeed(sandbox)
    })
  )
})

/**
 * Fails unless the session is still at its version. Called before a stop: the next worker may have started this
 * incarnation.
 */
const ensureCurrent = Effect.fnUntraced(function* ({ store }: Services, session: Session) {
  const latest = yield* store.get(AccountScope.ofOwner(session), session.id)
  if (!Option.exists(latest, ({ lifecycle }) => lifecycle.version === session.lifecycle.version)) {
    return yield* new Superseded()
  }
})

/** Creates the session's sandbox from the base image of its repository if there is one, otherwise without files. */
const createSandbox = Effect.fnUntraced(function* (services: Services, session: Session, name: SandboxName) {
  const { images, provider, times } = services
  const lifetime = times.lifetime
  const createBare = provider
    .create({ name, from: Option.none(), lifetime })
    .pipe(Effect.catchTag("SnapshotGone", Effect.die))
  const repo = yield* repoOf(services, session)
  if (Option.isNone(repo)) return yield* createBare
  const key = imageKeyOf(session, repo.value)
  const snapshot = Option.getOrNull(yield* images.find(key))?.current ?? null
  if (snapshot === null) return yield* createBare
  yield* images.recordUse(key)
  return yield* provider
    .create({ name, from: Option.some(snapshot), lifetime })
    .pipe(
      Effect.catchTag("SnapshotGone", ({ id }) =>
        Effect.logWarning("Base image is gone, creating a bare sandbox", { key, snapshot: id }).pipe(
          Effect.andThen(images.markLost(key, id)),
          Effect.andThen(createBare)
        )
      )
    )
})

const resumeIfPresent = ({ provider, times }: Services, name: SandboxName) =>
  provider.resume(name, times.lifetime).pipe(
    Effect.map(Option.some),
    Effect.catchTag("SandboxGone", () => Effect.succeed(Option.none<Sandbox>()))
  )

/** The work on a session under one lease. */
interface Attempt {
  /** The session as this worker last wrote it. */
  readonly session: Ref.Ref<Session>
  readonly name: SandboxName
  /** The running sandbox, which is stopped if the attempt fails. */
  readonly started: Ref.Ref<Sandbox | null>
}

/** A running sandbox under the session's name: the existing one, resumed if necessary, or a new one. */
const boot = Effect.fnUntraced(function* (services: Services, attempt: Attempt) {
  const { provider } = services
  const { name } = attempt
  const session = yield* Ref.get(attempt.session)
  const found = yield* provider.find(name)
  if (Option.isSome(found) && found.value.status === "running") {
    if (session.lifecycle.attempt > 1) return yield* ensureMinimumLifetime(services, found.value)
    // The session was not running, so another worker may be about to stop this incarnation. It can't be used.
    yield* ensureCurrent(services, session)
    yield* provider.stop(name, { incarnation: found.value.incarnation })
  }
  const resumed = Option.isSome(found) ? yield* resumeIfPresent(services, name) : Option.none<Sandbox>()
  if (Option.isSome(resumed)) return resumed.value
  if (!session.lifecycle.needsCheckout) {
    yield* Effect.logWarning("Provider lost the sandbox of a session, creating another", {
      session: session.id,
      sandbox: name
    })
    const lost = SessionTransition.MarkLost({ reason: lostReason })
    yield* Ref.set(attempt.session, yield* applyOrSupersede(services, session, lost))
  }
  const created = yield* createSandbox(services, session, name)
  // An earlier request may have created the sandbox, and it may have stopped since.
  if (created.status === "running") return created
  const restarted = yield* resumeIfPresent(services, name)
  return Option.isSome(restarted) ? restarted.value : yield* new SandboxNotRunning({ name, reason: null })
})

/** Checks out the session's repository in a new sandbox; returns the branch. */
const checkOut = Effect.fnUntraced(function* (services: Services, session: Session, name: SandboxName) {
  const { checkouts, identities } = services
  const { branch, needsCheckout, workspace } = session.lifecycle
  if (session.repo === null) return branch
  if (!needsCheckout) {
    // No command of the session runs yet, so its files can be moved.
    if (!workspace) yield* checkouts.relocate(name)
    return branch
  }
  const repo = yield* repoOf(services, session)
  if (Option.isNone(repo)) return yield* new RepoForbidden()
  const { readAs, url } = repo.value
  const author = authorOf(session.account, Option.getOrNull(yield* identities.findAccount(session.account)))
  return (yield* checkouts.clone(name, repo.value.repo, { branch, readAs, url, author })).branch
})

/** Renews the lease on the session; false if another worker has written to it. */
const renewLease = Effect.fnUntraced(function* ({ store, times }: Services, attempt: Attempt) {
  const { id, lifecycle, ...session } = yield* Ref.get(attempt.session)
  const nextCheckAt = yield* newExpiry(times.lease)
  const renewed = yield* store.setNextCheck(AccountScope.ofOwner(session), id, lifecycle.version, nextCheckAt)
  // This worker itself may have written a transition between the read and the renewal.
  return renewed || (yield* Ref.get(attempt.session)).lifecycle.version !== lifecycle.version
})

/** The states in which another worker may use the sandbox that was started here. */
const usedStates: ReadonlyArray<string> = ["provisioning", "restoring", "active"]

/**
 * Stops a sandbox that was started for a session that is no longer running. Leaves the work of another worker alone.
 */
const rollBack = Effect.fnUntraced(function* ({ provider, store }: Services, session: Session, sandbox: Sandbox) {
  const latest = yield* store.get(AccountScope.ofOwner(session), session.id)
  if (Option.isNone(latest)) yield* Effect.ignore(provider.remove(sandbox.name))
  else if (!usedStates.includes(stateOf(latest.value))) {
    yield* Effect.ignore(provider.stop(sandbox.name, { incarnation: sandbox.incarnation }))
  }
})

/** Boots the sandbox, checks out the repository and activates the session. */
const activate = Effect.fnUntraced(function* (services: Services, attempt: Attempt) {
  const { times } = services
  const sandbox = yield* boot(services, attempt)
  yield* Ref.set(attempt.started, sandbox)
  const branch: BranchName | null = yield* checkOut(services, yield* Ref.get(attempt.session), attempt.name)
  const now = yield* DateTime.now
  const idleAt = DateTime.addDuration(now, times.idle)
  const { expiresAt, incarnation } = sandbox
  const nextCheckAt = nextCheckFor(times, idleAt, expiresAt, now)
  const before = yield* Ref.get(attempt.session)
  const workspace = before.repo !== null
  const session = yield* applyOrSupersede(
    services,
    before,
    SessionTransition.Activate({ incarnation, expiresAt, idleAt, nextCheckAt, workspace, branch })
  )
  return { session, sandbox }
})

/** Marks the session failed and stops what was started; fails with the reason. */
const fail = Effect.fnUntraced(function* (services: Services, attempt: Attempt, failure: Failure) {
  const session = yield* Ref.get(attempt.session)
  const started = yield* Ref.get(attempt.started)
  yield* Effect.logWarning("Failed to provision session", { session: session.id }, failure)
  const reason = reasonOf(failure)
  yield* applyOrSupersede(services, session, SessionTransition.Fail({ error: reason.sentence, code: reason.code }))
  if (started !== null) {
    yield* Effect.ignore(services.provider.stop(started.name, { incarnation: started.incarnation }))
  }
  return yield* notProvisioned(reason, failure)
})

const provision = Effect.fn("SessionSandboxes.provision")(
  function* (services: Services, session: Session) {
    const name = session.lifecycle.sandbox
    if (name === null) return yield* Effect.die(new Error("Cannot provision a session that has no sandbox name"))
    const attempt: Attempt = {
      session: yield* Ref.make(session),
      name,
      started: yield* Ref.make<Sandbox | null>(null)
    }
    return yield* whileRenewing(activate(services, attempt), {
      lease: services.times.lease,
      renew: renewLease(services, attempt),
      lost: Effect.fail(new Superseded())
    }).pipe(
      Effect.catchTag("Superseded", (superseded) =>
        Effect.gen(function* () {
          const sandbox = yield* Ref.get(attempt.started)
          if (sandbox !== null) yield* rollBack(services, session, sandbox)
          return yield* superseded
        })
      ),
      Effect.catchIf(isFailure, (failure) => fail(services, attempt, failure))
    )
  },
  Effect.uninterruptible,
  (provisioning, _, { account, id, lifecycle }) =>
    (lifecycle.needsCheckout
      ? trackOutcome(metrics.creates, { kind: "session" }, "outcome")(provisioning)
      : provisioning
    ).pipe(annotateIds({ account, session: id, ...(lifecycle.sandbox === null ? {} : { sandbox: lifecycle.sandbox }) }))
)

/** The incarnation of a session's sandbox to stop; null if none runs. */
const incarnationToStop = Effect.fnUntraced(function* (services: Services, session: Session, name: SandboxName) {
  const { incarnation } = session.lifecycle
  if (incarnation !== null) return incarnation
  const found = yield* services.provider.find(name)
  if (Option.isNone(found) || found.value.status !== "running") return null
  yield* ensureCurrent(services, session)
  return found.value.incarnation
})

const hibernate = Effect.fn("SessionSandboxes.hibernate")(function* (
  services: Services,
  session: Session,
  reason: ChangeReason
) {
  const { sandbox } = session.lifecycle
  const incarnation = sandbox === null ? null : yield* incarnationToStop(services, session, sandbox)
  if (sandbox !== null && incarnation !== null) yield* services.provider.stop(sandbox, { incarnation })
  return yield* applyOrSupersede(services, session, SessionTransition.Hibernated({ reason }))
}, Effect.uninterruptible)

type Failure = SyncFailure | RepoForbidden

const isFailure = (failure: Failure | Superseded): failure is Failure => failure._tag !== "Superseded"

/** Why a session could not be provisioned, for its owner. */
const reasonOf = (failure: Failure): FailureReason => {
  switch (failure._tag) {
    case "RepoForbidden":
      // The same reason as for a missing repository, so that callers can't probe for private repositories.
      return permanent("repository_not_found", "The repository does not exist, or may not be read")
    case "SandboxGone":
    case "SandboxNotRunning":
      return transient("sandbox_stopped", "The sandbox stopped while it was provisioned")
    default:
      return reasonFor(failure)
  }
}
