/** The whole control plane over whatever ports it is given: use cases, workers, housekeeping and the API. */
import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import { AccountStore } from "@castellan/domain/account/AccountStore.ts"
import { Environments } from "@castellan/domain/account/Environments.ts"
import type { EnvironmentStore } from "@castellan/domain/account/EnvironmentStore.ts"
import { SandboxOperations } from "@castellan/domain/account/SandboxOperations.ts"
import * as SetupRuns from "@castellan/domain/account/SetupRuns.ts"
import { Setups } from "@castellan/domain/account/Setups.ts"
import { Snapshots } from "@castellan/domain/account/Snapshots.ts"
import { AppTermination } from "@castellan/domain/app/AppTermination.ts"
import { AppPreviews } from "@castellan/domain/app/AppPreviews.ts"
import { AppFiles } from "@castellan/domain/app/AppFiles.ts"
import { AppSandboxes } from "@castellan/domain/app/AppSandboxes.ts"
import { AppProvisioning } from "@castellan/domain/app/AppProvisioning.ts"
import type { AppStore } from "@castellan/domain/app/AppStore.ts"
import { type AppTimes, usualTimes as usualAppTimes } from "@castellan/domain/app/AppTimes.ts"
import { GuestScripts } from "@castellan/domain/app/guest/GuestScripts.ts"
import { Scaffolds } from "@castellan/domain/app/project/Scaffolds.ts"
import { Access } from "@castellan/domain/identity/Access.ts"
import type { AccessPolicy } from "@castellan/domain/identity/AccessRule.ts"
import { Accounts } from "@castellan/domain/identity/Accounts.ts"
import { CredentialWatch } from "@castellan/domain/identity/CredentialWatch.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import { responseRetentionMs, IdempotencyStore } from "@castellan/domain/identity/IdempotencyStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { record, metrics, MetricsEnabled } from "@castellan/domain/Metrics.ts"
import { Organizations } from "@castellan/domain/identity/Organizations.ts"
import { Checkouts } from "@castellan/domain/repo/Checkouts.ts"
import { FileTrees } from "@castellan/domain/repo/FileTrees.ts"
import type { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import type { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import * as InstrumentedProvider from "@castellan/domain/sandbox/InstrumentedProvider.ts"
import type { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { type SessionTimes, usualTimes } from "@castellan/domain/session/decide.ts"
import { ImageBuilds, worker } from "@castellan/domain/session/ImageBuilds.ts"
import { Reconciler } from "@castellan/domain/session/Reconciler.ts"
import type { RepoAccess } from "@castellan/domain/session/SessionRepo.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { SessionSandboxes } from "@castellan/domain/session/SessionSandboxes.ts"
import type { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import * as CommandRuns from "@castellan/domain/task/CommandRuns.ts"
import { TaskName } from "@castellan/domain/task/TaskRun.ts"
import { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import type { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { DateTime, Duration, Effect, Layer, type Redacted, Schedule } from "effect"
import { Aead, Digest, Mac, SecureRandom } from "effect/crypto"
import { untilBegun } from "./Shutdown.ts"
import { type TokenOptions, Tokens } from "../middleware/Tokens.ts"

/** What an embedder gives: one layer for each of these. */
export type Ports =
  | AppStore
  | IdentityStore
  | IdempotencyStore
  | AccountStore
  | EnvironmentStore
  | TaskRunStore
  | TaskRunner
  | SandboxProvider
  | SessionStore
  | BaseImageStore
  | EventStore
  | RepoHost

export interface CastellanOptions {
  /** 32 random bytes that key the digests of API keys and seal kept answers; the same for all servers on one store. */
  readonly secret: Redacted.Redacted<Uint8Array>
  /** Which members may act for their organization and its members; all (`peers`) if left out. */
  readonly access?: AccessPolicy
  /** The identity provider whose tokens are taken as well as API keys; none if left out. */
  readonly tokens?: TokenOptions
  /** The program and first arguments that run a prompt. */
  readonly agent?: readonly [string, ...ReadonlyArray<string>]
  /** How long a new sandbox runs before its provider stops it. */
  readonly lifetime?: Duration.Duration
  /** Commands that this process follows at once. */
  readonly concurrency?: number
  /** Setups that this process works on at once. */
  readonly setupsAtOnce?: number
  /** Sandboxes of an account's own that may live at once, and as many of its sessions that may be awake. */
  readonly liveAtMost?: number
  /** The times that sessions live by; those that are left out are the usual ones. */
  readonly sessionTimes?: Partial<SessionTimes>
  /** Which repositories of the service's owner a session may read with the service's right. */
  readonly repoAccess?: RepoAccess
  /** The times that web apps live by; those that are left out are the usual ones. */
  readonly appTimes?: Partial<AppTimes>
  /** Base images that this process builds at once. */
  readonly imagesAtOnce?: number
  /** How long the files of a stopped sandbox are kept. */
  readonly keepStopped?: Duration.Duration
}

/** OpenCode, which takes a prompt as one argument. */
export const defaultAgent = ["opencode", "run"] as const

/** Sandboxes of an account that may live at once, and sessions that may be awake, if nobody says otherwise. */
export const defaultLiveAtMost = 1000

/** Hours that the files of a stopped sandbox are kept, if nobody says otherwise: a week. */
export const defaultKeepStoppedHours = 7 * 24

/** How long it can be read what happened. */
const eventsKept = Duration.days(7)

const crypto = Layer.mergeAll(Aead.layerWebCrypto, Mac.layerWebCrypto, Digest.layerWebCrypto).pipe(
  Layer.provideMerge(SecureRandom.layerWebCrypto)
)

const repeatedly = (what: string, every: Duration.Input, pass: Effect.Effect<unknown, unknown>) =>
  pass.pipe(
    Effect.catchCause((cause) => Effect.logWarning(`${what} did not work out this time`, cause)),
    Effect.repeat(Schedule.spaced(every)),
    Effect.forkScoped
  )

/** Looks at what only the stores know. */
const samples = Effect.gen(function* () {
  const runner = yield* TaskRunner
  const accounts = yield* AccountStore
  return Effect.gen(function* () {
    const now = yield* DateTime.now
    const waiting = new Map((yield* runner.backlog).map((backlog) => [backlog.task, backlog]))
    for (const task of TaskName.literals) {
      const { depth, oldest } = waiting.get(task) ?? { depth: 0, oldest: now }
      yield* record(metrics.queued, depth, { task })
      const waits = Math.max(0, now.epochMilliseconds - oldest.epochMilliseconds)
      yield* record(metrics.queueAge, waits / 1000, { task })
    }
    yield* record(metrics.live, yield* accounts.countLive(now), {})
  })
})

/** What nobody asks for and has to be done: creates that were cut off are settled, what is of no use any more goes. */
const housekeeping = Layer.effectDiscard(
  Effect.gen(function* () {
    const sandboxes = yield* AccountSandboxes
    const snapshots = yield* Snapshots
    const images = yield* BaseImages
    const reconciler = yield* Reconciler
    const apps = yield* AppSandboxes
    const events = yield* EventStore
    const answers = yield* IdempotencyStore
    const forget = Effect.flatMap(DateTime.now, (now) => events.sweep(DateTime.subtractDuration(now, eventsKept)))
    const sweep = Effect.flatMap(DateTime.now, (now) =>
      answers.sweep(DateTime.subtractDuration(now, responseRetentionMs))
    )
    yield* repeatedly("settling unfinished creates", "30 seconds", sandboxes.reconcile)
    yield* repeatedly("removing old sandboxes", "5 minutes", sandboxes.tidy)
    yield* repeatedly("removing snapshots nobody needs", "5 minutes", snapshots.collect)
    yield* repeatedly("removing base images nobody needs", "5 minutes", images.collect)
    yield* repeatedly("looking after web apps", "15 seconds", apps.reconcile)
    yield* repeatedly("forgetting old answers", "1 hour", sweep)
    yield* repeatedly("forgetting old events", "1 hour", forget)
    yield* Effect.forkScoped(reconciler.run)
    if (yield* MetricsEnabled) yield* repeatedly("sampling what is measured", "15 seconds", yield* samples)
  })
)

/** All use cases over the ports, with the workers that finish what requests begin. The ports stay visible. */
export const layer = (options: CastellanOptions) => {
  const lifetime = options.lifetime ?? Duration.minutes(30)
  const liveAtMost = options.liveAtMost ?? defaultLiveAtMost
  const keepStopped = options.keepStopped ?? Duration.hours(defaultKeepStoppedHours)
  const sandboxes = AccountSandboxes.layer({
    agent: options.agent ?? defaultAgent,
    lifetime,
    liveAtMost,
    keepStopped
  })
  const times: SessionTimes = { ...usualTimes, lifetime, ...options.sessionTimes }
  const repoAccess = options.repoAccess ?? "owner"
  const sessions = Layer.mergeAll(Sessions.layer({ liveAtMost }), Reconciler.layer).pipe(
    Layer.provideMerge(ImageBuilds.layer),
    Layer.provideMerge(SessionSandboxes.layer({ times, repoAccess })),
    Layer.provideMerge(BaseImages.layer)
  )
  const appTimes: AppTimes = { ...usualAppTimes, keepStopped, ...options.appTimes }
  const apps = Layer.mergeAll(AppFiles.layer(appTimes), AppPreviews.layer).pipe(
    Layer.provideMerge(AppSandboxes.layer(appTimes)),
    Layer.provide(AppProvisioning.layer(appTimes)),
    Layer.provide(Layer.merge(AppTermination.layer(appTimes), Scaffolds.layer(appTimes))),
    Layer.provide(GuestScripts.layer),
    Layer.provideMerge(BaseImages.layer)
  )
  const workers = Layer.mergeAll(
    CommandRuns.layer({ concurrency: options.concurrency ?? 1000 }),
    SetupRuns.layer({ concurrency: options.setupsAtOnce ?? 10, lifetime }),
    worker({ concurrency: options.imagesAtOnce ?? 2 })
  )
  const background = Layer.merge(Layer.effectDiscard(untilBegun(Layer.build(workers))), housekeeping)
  return background.pipe(
    Layer.provideMerge(Layer.mergeAll(SandboxOperations.layer({ lifetime }), Environments.layer, Setups.layer)),
    Layer.provideMerge(Layer.mergeAll(sandboxes, sessions, apps)),
    Layer.provideMerge(Layer.mergeAll(TaskRuns.layer, Snapshots.layer, Checkouts.layer)),
    Layer.provideMerge(Layer.mergeAll(Sandboxes.layer, FileTrees.layer)),
    Layer.provideMerge(Layer.mergeAll(Accounts.layer, ApiKeys.layer({ secret: options.secret }), Organizations.layer)),
    Layer.provideMerge(Layer.merge(Access.layer({ policy: options.access ?? "peers" }), Tokens.layer(options.tokens))),
    Layer.provideMerge(CredentialWatch.layer),
    Layer.provideMerge(crypto),
    Layer.provideMerge(InstrumentedProvider.layer)
  )
}
