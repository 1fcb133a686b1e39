import * as RepoUrl from "../repo/RepoUrl.ts"
import { Clock, Context, DateTime, Duration, Effect, Layer, Option, PubSub, Ref, Schema } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import { IdentityStore } from "../identity/IdentityStore.ts"
import { type FailureCode, FailureReason, isCallerError, permanent, transient } from "../FailureReason.ts"
import { annotateIds, trackOutcome, metrics } from "../Metrics.ts"
import { Checkouts, reasonFor, type SyncFailure } from "../repo/Checkouts.ts"
import { encodeReadAs } from "../repo/ReadAs.ts"
import { RepoHost } from "../repo/RepoHost.ts"
import type { BranchName } from "../repo/Repo.ts"
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
import { holdersOf, type RepoAccess, resolve, type SessionRepo } from "./SessionRepo.ts"
import { SessionStore } from "./SessionStore.ts"

/** The session's sandbox could not be brought up. The session keeps the reason. */
export class SessionNotProvisioned extends Schema.TaggedError<SessionNotProvisioned>()("SessionNotProvisioned", {
  reason: FailureReason,
  cause: InternalCause
}) {}

/** The session's repository can't be brought in: only another repository, or a change of this one, helps. */
export class SessionRepoUnusable extends Schema.TaggedError<SessionRepoUnusable>()("SessionRepoUnusable", {
  reason: FailureReason,
  cause: InternalCause
}) {}

/** The error for a reason: whether the caller's repository is the cause, or something behind the server. */
export const notProvisioned = (reason: FailureReason, cause?: unknown): SessionNotProvisioned | SessionRepoUnusable =>
  isCallerError(reason) ? new SessionRepoUnusable({ reason, cause }) : new SessionNotProvisioned({ reason, cause })

/** Why the last attempt at a session failed, as the session keeps it. */
export const lastFailure = ({ lifecycle: { error, errorCode } }: Session): FailureReason => {
  const code = errorCode ?? "internal_error"
  const sentence = error ?? "The sandbox could not be brought up"
  const reason = permanent(code, sentence)
  return isCallerError(reason) || stays.includes(code) ? reason : transient(code, sentence)
}

/** Codes of failures that another try does not overcome, though the caller did not cause them. */
const stays: ReadonlyArray<FailureCode> = ["checkout_failed", "provider_refused", "repository_host_refused"]

/** Another worker took the session over, or a client archived it: the result of this attempt does not count. */
export class Superseded extends Schema.TaggedError<Superseded>()("Superseded", {}) {}

/** The session may no longer read its repository. */
class RepoForbidden extends Schema.TaggedError<RepoForbidden>()("RepoForbidden", {}) {}

/** A session with its sandbox, which runs. */
export interface RunningSession {
  readonly session: Session
  readonly sandbox: Sandbox
}

/** How the key of an image ends whose repository is in its workspace. Older images have it in their home directory. */
const inWorkspace = ":workspace"

/** Whether the image is one that this server builds. Servers from before workspaces build and use others. */
export const hasWorkspace = (key: ImageKey): boolean => key.endsWith(inWorkspace)

/**
 * The image that sandboxes of a session boot from: one for each repository of its organization, or of its account. What
 * was read in the service's right is no image for those who may read only what anyone may.
 */
export const imageKeyOf = (session: Session, { repo, readAs }: SessionRepo): ImageKey =>
  ImageKey.make(
    `${session.organization ?? session.account}/${encodeReadAs(readAs)}/${repo.owner}/${repo.name}${inWorkspace}`.toLowerCase()
  )

/**
 * What is done with a session's sandbox by whoever has claimed it: a client that opens it, or the reconciler. Every
 * write is a step from the version that was read; every stop names the incarnation it means.
 */
export class SessionSandboxes extends Context.Service<
  SessionSandboxes,
  {
    /** The times that sessions live by. */
    readonly times: SessionTimes
    /** Writes a move; none where it is not legal, or where the session is no longer the one that was read. */
    readonly apply: (session: Session, move: SessionTransition) => Effect.Effect<Option.Option<Session>>
    /** Completes when the session was changed in this process, or after a moment. */
    readonly awaitChange: (id: SessionId) => Effect.Effect<void>
    /** The repository of a session, where it has one that it may read. */
    readonly repoOf: (
      session: Pick<Session, "account" | "organization" | "repo">
    ) => Effect.Effect<Option.Option<SessionRepo>>
    /** The URL of a repository in the form that URLs have now; a session may have one that an older server wrote. */
    readonly currentUrl: (url: string) => string
    /** Brings up the sandbox of a session that the caller has just begun to provision or restore. */
    readonly provision: (
      session: Session
    ) => Effect.Effect<RunningSession, SessionNotProvisioned | SessionRepoUnusable | Superseded>
    /** Stops the sandbox of a session that the caller has just begun to put to sleep. */
    readonly hibernate: (
      session: Session,
      reason: string | null
    ) => Effect.Effect<Session, SandboxUnavailable | Superseded>
    /** The sandbox, with more time if it would stop before whoever opens its session can have been idle. */
    readonly ensureMinimumLifetime: <A extends Pick<Sandbox, "expiresAt" | "name">>(
      sandbox: A
    ) => Effect.Effect<A | Sandbox, SandboxUnavailable>
    /** Until when a claim that is made now is taken to be alive. */
    readonly newLeaseExpiry: Effect.Effect<DateTime.Utc>
    /** Writes that the session is used now; none where it is no longer the one that was read. */
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

/** How often a waiter reads a session that another process may have changed. */
const pollInterval = Duration.millis(250)

const make = Effect.fnUntraced(function* (times: SessionTimes, repoAccess: RepoAccess) {
  const store = yield* SessionStore
  const provider = yield* SandboxProvider
  const images = yield* BaseImages
  const checkouts = yield* Checkouts
  const host = yield* RepoHost
  const identities = yield* IdentityStore
  const changes = yield* PubSub.unbounded<SessionId>()

  const until = newExpiry(times.lease)

  const move = Effect.fn("SessionSandboxes.apply")(function* (session: Session, transition: SessionTransition) {
    const write = (applied: AppliedSessionTransition) => store.compareAndSet(AccountScope.ofOwner(session), applied)
    const applied = yield* applyIfUnchanged(sessionMachine, write, session, transition)
    if (Option.isSome(applied)) yield* PubSub.publish(changes, session.id)
    return applied
  })

  const taken = (session: Session, wanted: SessionTransition) =>
    Effect.flatMap(move(session, wanted), (next) =>
      Option.isSome(next) ? Effect.succeed(next.value) : Effect.fail(new Superseded())
    )

  const awaitChange = Effect.fnUntraced(function* (id: SessionId) {
    const subscription: PubSub.Subscription<SessionId> = yield* PubSub.subscribe(changes)
    yield* Effect.repeat(PubSub.take(subscription), { until: (changed) => changed === id }).pipe(
      Effect.timeoutOption(pollInterval)
    )
  }, Effect.scoped)

  const repoOf = Effect.fnUntraced(function* (session: Pick<Session, "account" | "organization" | "repo">) {
    if (session.repo === null) return Option.none<SessionRepo>()
    return resolve(host.supports, repoAccess, session.repo, yield* holdersOf(identities, session))
  })

  const created = Effect.fnUntraced(function* (session: Session, name: SandboxName) {
    const lifetime = times.lifetime
    const bare = provider
      .create({ name, from: Option.none(), lifetime })
      .pipe(Effect.catchTag("SnapshotGone", Effect.die))
    const repo = yield* repoOf(session)
    if (Option.isNone(repo)) return yield* bare
    const key = imageKeyOf(session, repo.value)
    const current = Option.getOrNull(yield* images.find(key))?.current ?? null
    if (current === null) return yield* bare
    yield* images.recordUse(key)
    return yield* provider
      .create({ name, from: Option.some(current), lifetime })
      .pipe(
        Effect.catchTag("SnapshotGone", ({ id }) =>
          Effect.logWarning("Base image is gone, creating a bare sandbox", { key, snapshot: id }).pipe(
            Effect.andThen(images.markLost(key, id)),
            Effect.andThen(bare)
          )
        )
      )
  })

  const lastsAWhile = Effect.fnUntraced(function* <A extends Pick<Sandbox, "expiresAt" | "name">>(sandbox: A) {
    const wanted = DateTime.addDuration(yield* DateTime.now, Duration.sum(times.idle, times.margin))
    if (DateTime.isGreaterThan(sandbox.expiresAt, wanted)) return sandbox
    return yield* provider.extend(sandbox.name, times.extension).pipe(
      Effect.catchTags({
        SandboxGone: () => Effect.succeed(sandbox),
        SandboxNotRunning: () => Effect.succeed(sandbox)
      })
    )
  })

  const resumed = (name: SandboxName) =>
    provider.resume(name, times.lifetime).pipe(
      Effect.map(Option.some),
      Effect.catchTag("SandboxGone", () => Effect.succeed(Option.none<Sandbox>()))
    )

  /** Checked before a run that was found is stopped: a worker with a later lease may have started it. */
  const stillOurs = Effect.fnUntraced(function* (session: Session) {
    const now = yield* store.get(AccountScope.ofOwner(session), session.id)
    if (!Option.exists(now, ({ lifecycle }) => lifecycle.version === session.lifecycle.version)) {
      return yield* new Superseded()
    }
  })

  /** A running sandbox under the session's name: the existing one, resumed if necessary, or a new one. */
  const boot = Effect.fnUntraced(function* (claimed: Ref.Ref<Session>, name: SandboxName) {
    const session = yield* Ref.get(claimed)
    const found = yield* provider.find(name)
    if (Option.isSome(found) && found.value.status === "running") {
      if (session.lifecycle.attempt > 1) return yield* lastsAWhile(found.value)
      // The session was at rest: whoever started this run may be about to stop it, and so it must not be the next one's.
      yield* stillOurs(session)
      yield* provider.stop(name, { incarnation: found.value.incarnation })
    }
    const woken = Option.isSome(found) ? yield* resumed(name) : Option.none<Sandbox>()
    if (Option.isSome(woken)) return woken.value
    if (!session.lifecycle.needsCheckout) {
      yield* Effect.logWarning("Provider lost the sandbox of a session, creating another", {
        session: session.id,
        sandbox: name
      })
      yield* Ref.set(claimed, yield* taken(session, SessionTransition.MarkLost({ reason: lostReason })))
    }
    const made = yield* created(session, name)
    // What was asked for before, and is there now, may have stopped in between.
    if (made.status === "running") return made
    const up = yield* resumed(name)
    return Option.isSome(up) ? up.value : yield* new SandboxNotRunning({ name, reason: null })
  })

  const checkOut = Effect.fnUntraced(function* (session: Session, name: SandboxName) {
    const { branch, needsCheckout: fresh, workspace } = session.lifecycle
    if (session.repo === null) return branch
    if (!fresh) {
      // Nothing of the session runs yet, so its files can be moved.
      if (!workspace) yield* checkouts.relocate(name)
      return branch
    }
    const repo = yield* repoOf(session)
    if (Option.isNone(repo)) return yield* new RepoForbidden()
    const { readAs, url } = repo.value
    const author = authorOf(session.account, Option.getOrNull(yield* identities.findAccount(session.account)))
    const options = { branch, readAs, url, author }
    return (yield* checkouts.clone(name, repo.value.repo, options)).branch
  })

  /** Renews the lease on the claimed session; false where another worker has written to it. */
  const renewLease = Effect.fnUntraced(function* (claimed: Ref.Ref<Session>) {
    const { id, lifecycle, ...session } = yield* Ref.get(claimed)
    const renewed = yield* store.setNextCheck(AccountScope.ofOwner(session), id, lifecycle.version, yield* until)
    // This worker itself may have written a transition between the read and the renewal.
    return renewed || (yield* Ref.get(claimed)).lifecycle.version !== lifecycle.version
  })

  /** The states in which another worker may use the sandbox that was started here. */
  const usedStates: ReadonlyArray<string> = ["provisioning", "restoring", "active"]

  /** Stops a sandbox that was started for a session which is now at rest. Work of another worker is left alone. */
  const rollBack = Effect.fnUntraced(function* (session: Session, sandbox: Sandbox) {
    const now = yield* store.get(AccountScope.ofOwner(session), session.id)
    if (Option.isNone(now)) yield* Effect.ignore(provider.remove(sandbox.name))
    else if (!usedStates.includes(stateOf(now.value))) {
      yield* Effect.ignore(provider.stop(sandbox.name, { incarnation: sandbox.incarnation }))
    }
  })

  const work = Effect.fnUntraced(function* (
    claimed: Ref.Ref<Session>,
    name: SandboxName,
    started: Ref.Ref<Sandbox | null>
  ) {
    const sandbox = yield* boot(claimed, name)
    yield* Ref.set(started, sandbox)
    const branch: BranchName | null = yield* checkOut(yield* Ref.get(claimed), name)
    const now = yield* DateTime.now
    const idleAt = DateTime.addDuration(now, times.idle)
    const { expiresAt, incarnation } = sandbox
    const lookAt = nextCheckFor(times, idleAt, expiresAt, now)
    const mine = yield* Ref.get(claimed)
    const workspace = mine.repo !== null
    const session = yield* taken(
      mine,
      SessionTransition.Activate({ incarnation, expiresAt, idleAt, nextCheckAt: lookAt, workspace, branch })
    )
    return { session, sandbox }
  })

  const fail = Effect.fnUntraced(function* (session: Session, started: Sandbox | null, failure: Failure) {
    yield* Effect.logWarning("Failed to provision session", { session: session.id }, failure)
    const reason = reasonOf(failure)
    const failed = yield* move(session, SessionTransition.Fail({ error: reason.sentence, code: reason.code }))
    if (Option.isNone(failed)) return yield* new Superseded()
    if (started !== null) yield* Effect.ignore(provider.stop(started.name, { incarnation: started.incarnation }))
    return yield* notProvisioned(reason, failure)
  })

  const bringUp = Effect.fn("SessionSandboxes.bringUp")(
    function* (session: Session) {
      const name = session.lifecycle.sandbox
      if (name === null) return yield* Effect.die(new Error("a session is brought up that has no name for its sandbox"))
      const claimed = yield* Ref.make(session)
      const started = yield* Ref.make<Sandbox | null>(null)
      return yield* whileRenewing(work(claimed, name, started), {
        lease: times.lease,
        renew: renewLease(claimed),
        lost: Effect.fail(new Superseded())
      }).pipe(
        Effect.catchTag("Superseded", (superseded) =>
          Effect.gen(function* () {
            const sandbox = yield* Ref.get(started)
            if (sandbox !== null) yield* rollBack(session, sandbox)
            return yield* superseded
          })
        ),
        Effect.catchIf(isFailure, (failure) =>
          Effect.flatMap(Effect.all([Ref.get(claimed), Ref.get(started)]), ([at, sandbox]) =>
            fail(at, sandbox, failure)
          )
        )
      )
    },
    Effect.uninterruptible,
    (bringing, { account, id, lifecycle }) =>
      (lifecycle.needsCheckout
        ? trackOutcome(metrics.creates, { kind: "session" }, "outcome")(bringing)
        : bringing
      ).pipe(
        annotateIds({ account, session: id, ...(lifecycle.sandbox === null ? {} : { sandbox: lifecycle.sandbox }) })
      )
  )

  /** The incarnation of a session's sandbox to stop; null where none runs. */
  const incarnationToStop = Effect.fnUntraced(function* (session: Session, name: SandboxName) {
    const { incarnation } = session.lifecycle
    if (incarnation !== null) return incarnation
    const found = yield* provider.find(name)
    if (Option.isNone(found) || found.value.status !== "running") return null
    yield* stillOurs(session)
    return found.value.incarnation
  })

  const putToSleep = Effect.fn("SessionSandboxes.putToSleep")(function* (session: Session, reason: string | null) {
    const { sandbox } = session.lifecycle
    const only = sandbox === null ? null : yield* incarnationToStop(session, sandbox)
    if (sandbox !== null && only !== null) yield* provider.stop(sandbox, { incarnation: only })
    return yield* taken(session, SessionTransition.Hibernated({ reason }))
  }, Effect.uninterruptible)

  const use = Effect.fnUntraced(function* (session: Session, expiresAt: DateTime.Utc, byOwner: boolean) {
    const now = DateTime.makeUnsafe(yield* Clock.currentTimeMillis)
    const idleAt = DateTime.addDuration(now, times.idle)
    const lookAt = nextCheckFor(times, idleAt, expiresAt, now)
    return yield* move(session, SessionTransition.RecordActivity({ expiresAt, idleAt, nextCheckAt: lookAt, byOwner }))
  })

  const currentUrl = (url: string) => RepoUrl.current(host.supports, url)

  return SessionSandboxes.of({
    times,
    apply: move,
    awaitChange,
    repoOf,
    currentUrl,
    provision: bringUp,
    hibernate: putToSleep,
    newLeaseExpiry: until,
    recordActivity: use,
    ensureMinimumLifetime: lastsAWhile
  })
})

type Failure = SyncFailure | RepoForbidden

const isFailure = (failure: Failure | Superseded): failure is Failure => failure._tag !== "Superseded"

/** Why a session could not be brought up, for its owner. */
const reasonOf = (failure: Failure): FailureReason => {
  switch (failure._tag) {
    case "RepoForbidden":
      // The same as for one that does not exist: nobody learns which repositories there are.
      return permanent("repository_not_found", "The repository does not exist, or may not be read")
    case "SandboxGone":
    case "SandboxNotRunning":
      return transient("sandbox_stopped", "The sandbox stopped while it was brought up")
    default:
      return reasonFor(failure)
  }
}
