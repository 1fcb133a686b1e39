/** Composes the control plane over its ports: use cases, workers and housekeeping. */
import { AccountSandboxes } from "@castellan/domain/account/AccountSandboxes.ts"
import type { AccountStore } from "@castellan/domain/account/AccountStore.ts"
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
import { type AppTimes, defaultTimes as usualAppTimes } from "@castellan/domain/app/AppTimes.ts"
import { GuestScripts } from "@castellan/domain/app/guest/GuestScripts.ts"
import { Scaffolds } from "@castellan/domain/app/project/Scaffolds.ts"
import { Access } from "@castellan/domain/identity/Access.ts"
import type { AccessPolicy } from "@castellan/domain/identity/AccessRule.ts"
import { Accounts } from "@castellan/domain/identity/Accounts.ts"
import { CredentialWatch } from "@castellan/domain/identity/CredentialWatch.ts"
import { ApiKeys } from "@castellan/domain/identity/ApiKeys.ts"
import type { IdempotencyStore } from "@castellan/domain/identity/IdempotencyStore.ts"
import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Organizations } from "@castellan/domain/identity/Organizations.ts"
import { Checkouts } from "@castellan/domain/repo/Checkouts.ts"
import { FileTrees } from "@castellan/domain/repo/FileTrees.ts"
import type { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import { BaseImages } from "@castellan/domain/sandbox/BaseImages.ts"
import type { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import type { EventStore } from "@castellan/domain/sandbox/EventStore.ts"
import { Sandboxes } from "@castellan/domain/sandbox/Sandboxes.ts"
import * as InstrumentedProvider from "@castellan/domain/sandbox/InstrumentedProvider.ts"
import type { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { type SessionTimes, defaultTimes } from "@castellan/domain/session/decide.ts"
import { ImageBuilds, worker } from "@castellan/domain/session/ImageBuilds.ts"
import { Reconciler } from "@castellan/domain/session/Reconciler.ts"
import type { RepoAccess } from "@castellan/domain/session/SessionRepo.ts"
import { Sessions } from "@castellan/domain/session/Sessions.ts"
import { SessionSandboxes } from "@castellan/domain/session/SessionSandboxes.ts"
import type { SessionStore } from "@castellan/domain/session/SessionStore.ts"
import * as CommandRuns from "@castellan/domain/task/CommandRuns.ts"
import type { TaskRunner } from "@castellan/domain/task/TaskRunner.ts"
import { TaskRuns } from "@castellan/domain/task/TaskRuns.ts"
import type { TaskRunStore } from "@castellan/domain/task/TaskRunStore.ts"
import { Duration, Layer, type Redacted } from "effect"
import { Aead, Digest, Mac, SecureRandom } from "effect/crypto"
import { type TokenOptions, Tokens } from "../middleware/Tokens.ts"
import * as Housekeeping from "./Housekeeping.ts"
import { untilShutdown } from "./Shutdown.ts"

/** The ports that an embedder must provide. */
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
  /** 32 random bytes that key the digests of API keys and encrypt stored responses; the same for all servers on one store. */
  readonly secret: Redacted.Redacted<Uint8Array>
  /** Which members may act for their organization and its members. Default `peers`: all of them. */
  readonly access?: AccessPolicy
  /** An identity provider whose tokens are accepted in addition to API keys. Default none. */
  readonly tokens?: TokenOptions
  /** The program and first arguments that run a prompt. Default OpenCode. */
  readonly agent?: readonly [string, ...ReadonlyArray<string>]
  /** How long a new sandbox runs before its provider stops it. Default 30 minutes. */
  readonly lifetime?: Duration.Duration
  /** Command runs that this process follows at a time. Default 1000. */
  readonly maxCommandRuns?: number
  /** Setups that this process runs at a time. Default 10. */
  readonly maxSetups?: number
  /** Live sandboxes of an account, and as many awake sessions, on all servers together. Default 1000. */
  readonly maxLiveSandboxes?: number
  /** Times of a session's lifecycle that differ from `defaultTimes`. */
  readonly sessionTimes?: Partial<SessionTimes>
  /** Which repositories of the service's owner a session may read with the service's credential. Default `owner`. */
  readonly repoAccess?: RepoAccess
  /** Times of a web app's lifecycle that differ from `defaultTimes`. */
  readonly appTimes?: Partial<AppTimes>
  /** Base images that this process builds at a time. Default 2. */
  readonly maxImageBuilds?: number
  /** How long the files of a stopped sandbox are kept. Default 7 days. */
  readonly keepStopped?: Duration.Duration
}

/** OpenCode, which takes a prompt as one argument. */
export const defaultAgent: readonly [string, ...ReadonlyArray<string>] = ["opencode", "run"]

export const defaultLiveSandboxes = 1000

export const defaultKeepStopped = Duration.days(7)

const crypto = Layer.mergeAll(Aead.layerWebCrypto, Mac.layerWebCrypto, Digest.layerWebCrypto).pipe(
  Layer.provideMerge(SecureRandom.layerWebCrypto)
)

/** All use cases over the ports, with the workers that run what requests start. The ports stay visible. */
export const layer = (options: CastellanOptions) => {
  const lifetime = options.lifetime ?? Duration.minutes(30)
  const liveAtMost = options.maxLiveSandboxes ?? defaultLiveSandboxes
  const keepStopped = options.keepStopped ?? defaultKeepStopped
  const sandboxes = AccountSandboxes.layer({
    agent: options.agent ?? defaultAgent,
    lifetime,
    liveAtMost,
    keepStopped
  })
  const times: SessionTimes = { ...defaultTimes, lifetime, ...options.sessionTimes }
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
    CommandRuns.layer({ concurrency: options.maxCommandRuns ?? 1000 }),
    SetupRuns.layer({ concurrency: options.maxSetups ?? 10, lifetime }),
    worker({ concurrency: options.maxImageBuilds ?? 2 })
  )
  const background = Layer.merge(Layer.effectDiscard(untilShutdown(Layer.build(workers))), Housekeeping.layer)
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
