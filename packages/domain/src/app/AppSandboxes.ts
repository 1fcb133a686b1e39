/** Use cases of apps: creates, finds, resumes and terminates them. */
import { type Cause, Context, DateTime, Duration, Effect, Exit, Layer, Option, Schema } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { userRequested } from "../ChangeReason.ts"
import { FailureReason, permanent, transient } from "../FailureReason.ts"
import { AccountScope } from "../identity/AccountScope.ts"
import { trackOutcome, metrics } from "../Metrics.ts"
import { givenOrNew } from "../newNonce.ts"
import { isExpired } from "../lifecycle/Lease.ts"
import { Port } from "../sandbox/Port.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import {
  type SandboxGone,
  type SandboxNotRunning,
  SandboxProvider,
  type SandboxUnavailable
} from "../sandbox/SandboxProvider.ts"
import { InternalCause } from "../InternalCause.ts"
import { providerReason } from "../sandbox/providerReason.ts"
import { AppTermination } from "./AppTermination.ts"
import { AppTransition } from "./AppLifecycle.ts"
import { AppSandbox, isActive } from "./AppSandbox.ts"
import { AppProvisioning, type AppSuperseded, type StartFailure } from "./AppProvisioning.ts"
import { AppStore } from "./AppStore.ts"
import type { AppTimes } from "./AppTimes.ts"
import { decide } from "./decide.ts"
import { GuestScripts } from "./guest/GuestScripts.ts"

/** The account has no app of that name, or none that is active. */
export class AppNotFound extends Schema.TaggedError<AppNotFound>()("AppNotFound", {}) {}

/** The app could not be created. The previous app stays active. */
export class AppNotCreated extends Schema.TaggedError<AppNotCreated>()("AppNotCreated", {
  reason: FailureReason,
  cause: InternalCause
}) {}

/** The default port of Vite. */
const vitePort = Port.make(5173)

/** Where sandboxes share the host's ports, each app gets one of these at random. */
const sharedPorts = { from: 20_000, count: 10_000 } as const

/** How often `create` reads an app that another server provisions. */
const pollInterval = Duration.millis(200)

/** How much of its idle time passes before a use extends an app: a minute, or a quarter of the idle time if shorter. */
const extendEvery = ({ idle }: AppTimes): Duration.Duration =>
  Duration.min(Duration.minutes(1), Duration.divideUnsafe(idle, 4))

/** Apps that one pass of the reconciler claims. */
const rowsAPass = 100

const isSandboxName = Schema.is(SandboxName)

type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** The apps of accounts. At most one of an account is active: the last that became ready. */
export class AppSandboxes extends Context.Service<
  AppSandboxes,
  {
    /**
     * Creates an app and returns it once its page answers. It becomes the active app, and the previous one is
     * terminated. Concurrent calls of an account get the same app. If this fails, the previous app stays active.
     */
    readonly create: (scope: AccountScope, nonce: Option.Option<string>) => Effect.Effect<AppSandbox, AppNotCreated>
    /** The app with this name, unless it was terminated; the account's active one without a name. */
    readonly find: (scope: AccountScope, name: Option.Option<string>) => Effect.Effect<AppSandbox, AppNotFound>
    /** Whether the app's sandbox runs. Starts nothing. */
    readonly isAlive: (app: AppSandbox) => Effect.Effect<boolean, SandboxUnavailable>
    /** Terminates an app, or all of the account where `name` is none. Succeeds where there is none. */
    readonly terminate: (scope: AccountScope, name: Option.Option<string>) => Effect.Effect<void, SandboxUnavailable>
    /** Records a use: the sandbox of a ready app runs for its whole idle time again. A recent use writes nothing. */
    readonly recordActivity: (app: AppSandbox) => Effect.Effect<void>
    /** Resumes the app's sandbox if it is stopped, and starts its dev server. */
    readonly resume: (app: AppSandbox) => Effect.Effect<AppSandbox, AppNotFound | Idle>
    /**
     * Reconciles a batch of due apps of all accounts and returns their number: terminates those whose worker was
     * interrupted, records those that have stopped, and removes those that were stopped for too long.
     */
    readonly reconcile: Effect.Effect<number>
  }
>()("domain/app/AppSandboxes") {
  static readonly layer = (times: AppTimes) => Layer.effect(AppSandboxes, make(times))
}

/** The ports and settings of the functions below. */
interface Services {
  readonly store: AppStore["Service"]
  readonly provisioning: AppProvisioning["Service"]
  readonly termination: AppTermination["Service"]
  readonly provider: SandboxProvider["Service"]
  readonly random: SecureRandom["Service"]
  readonly guest: GuestScripts["Service"]
  readonly times: AppTimes
}

const make = Effect.fnUntraced(function* (times: AppTimes) {
  const services: Services = {
    store: yield* AppStore,
    provisioning: yield* AppProvisioning,
    termination: yield* AppTermination,
    provider: yield* SandboxProvider,
    random: yield* SecureRandom,
    guest: yield* GuestScripts,
    times
  }
  return AppSandboxes.of({
    create: (scope, nonce) => create(services, scope, nonce),
    find: (scope, name) => find(services, scope, name),
    isAlive: ({ name }) =>
      Effect.map(
        services.provider.find(name),
        Option.exists(({ status }) => status === "running")
      ),
    terminate: (scope, name) => terminate(services, scope, name),
    recordActivity: (app) => recordActivity(services, app),
    resume: (app) => resume(services, app),
    reconcile: reconcile(services)
  })
})

const choosePort = Effect.fnUntraced(function* ({ provider, random }: Services) {
  if (!provider.supports.sharesPorts) return vitePort
  const [a = 0, b = 0] = yield* random.randomBytes(2)
  return Port.make(sharedPorts.from + ((a * 256 + b) % sharedPorts.count))
})

/** Provisions an app under this worker's lease. Succeeds if another worker took it over. */
const provision = Effect.fnUntraced(function* ({ provisioning }: Services, app: AppSandbox) {
  const exit = yield* provisioning.provision(app)
  if (Exit.isSuccess(exit)) return
  const failure = Exit.findErrorOption(exit)
  if (Option.isNone(failure)) return yield* Effect.failCause(exit.cause as Cause.Cause<never>)
  if (failure.value._tag === "AppSuperseded") return
  return yield* new AppNotCreated({ reason: reasonOf(failure.value), cause: exit.cause })
})

/** Takes over a starting app whose lease has expired; none if another write came first. */
const takeOverLease = ({ termination }: Services, app: AppSandbox) =>
  Effect.flatMap(termination.newLeaseExpiry, (leaseExpiresAt) =>
    termination.applyIfUnchanged(app, AppTransition.RenewLease({ leaseExpiresAt }))
  )

/** Completes once a starting app is active. Provisions it if the lease of its worker expires. */
const awaitActive = Effect.fnUntraced(function* (services: Services, scope: AccountScope, first: AppSandbox) {
  let app = first
  while (app.state === "starting") {
    const expired = isExpired(app.nextCheckAt, yield* DateTime.now)
    const taken: Option.Option<AppSandbox> = expired ? yield* takeOverLease(services, app) : Option.none()
    if (Option.isSome(taken)) yield* provision(services, taken.value)
    else yield* Effect.sleep(pollInterval)
    const latest: Option.Option<AppSandbox> = yield* services.store.get(scope, app.name)
    if (Option.isNone(latest)) break
    app = latest.value
  }
  if (isActive(app)) return app
  const cause = new Error(`App ${app.name} is ${app.state}: ${app.reason ?? "its owner terminated it"}`)
  return yield* new AppNotCreated({
    reason: transient("app_ended", "The app was terminated while it was created"),
    cause
  })
})

const create = Effect.fn("AppSandboxes.create")(
  function* (services: Services, scope: AccountScope, nonce: Option.Option<string>) {
    const { random, store, termination } = services
    const name = SandboxName.make(`app-${yield* givenOrNew(random, nonce)}`)
    const wanted = new AppSandbox({
      name,
      account: scope.account,
      state: "starting",
      version: 0,
      port: yield* choosePort(services),
      createdAt: yield* DateTime.now,
      expiresAt: null,
      nextCheckAt: yield* termination.newLeaseExpiry,
      reason: null
    })
    const row = yield* store.begin(scope, wanted)
    if (Option.isNone(row)) return yield* Effect.die(new Error("The new app's name is another account's"))
    const app = row.value
    if (app.name === name && app.state === "starting") yield* provision(services, app)
    const latest = yield* store.get(scope, app.name)
    return yield* awaitActive(
      services,
      scope,
      Option.getOrElse(latest, () => app)
    )
  },
  trackOutcome(metrics.creates, { kind: "app" }, "outcome")
)

const find = Effect.fn("AppSandboxes.find")(function* (
  { store }: Services,
  scope: AccountScope,
  name: Option.Option<string>
) {
  const found = Option.isNone(name)
    ? yield* store.active(scope)
    : isSandboxName(name.value)
      ? yield* store.get(scope, name.value)
      : Option.none<AppSandbox>()
  if (Option.isNone(found) || isOver(found.value)) return yield* new AppNotFound()
  return found.value
})

const terminate = Effect.fn("AppSandboxes.terminate")(function* (
  { store, termination }: Services,
  scope: AccountScope,
  name: Option.Option<string>
) {
  const apps = (yield* store.listLive(scope)).filter((app) => Option.isNone(name) || app.name === name.value)
  // A failure does not prevent the termination of the others.
  const exits = yield* Effect.forEach(apps, (app) => Effect.exit(termination.terminate(app, userRequested)), {
    concurrency: 4
  })
  for (const exit of exits) yield* exit
})

const recordActivity = Effect.fn("AppSandboxes.recordActivity")(
  function* ({ provider, termination, times }: Services, app: AppSandbox) {
    if (app.state !== "ready" || app.expiresAt === null) return
    const now = yield* DateTime.now
    // Bounded in case the clock was set back: an app never gets more than its idle time.
    const left = Math.max(0, app.expiresAt.epochMilliseconds - now.epochMilliseconds)
    const missing = Duration.toMillis(times.idle) - left
    if (missing < Duration.toMillis(extendEvery(times))) return
    // Of several concurrent uses, the one that writes this transition extends the sandbox.
    const wanted = AppTransition.Serve({ expiresAt: DateTime.addDuration(now, times.idle) })
    const extending = yield* termination.applyIfUnchanged(app, wanted)
    if (Option.isNone(extending)) return
    const before = AppTransition.Serve({ expiresAt: app.expiresAt })
    const { expiresAt } = yield* provider
      .extend(app.name, Duration.millis(missing))
      .pipe(Effect.tapError(() => termination.applyIfUnchanged(extending.value, before)))
    yield* termination.apply(extending.value, AppTransition.Serve({ expiresAt }))
  },
  (recording) => Effect.ignore(recording)
)

const resume = Effect.fn("AppSandboxes.resume")(function* (
  { guest, provider, termination, times }: Services,
  app: AppSandbox
) {
  const sandbox = yield* provider.resume(app.name, times.idle)
  // The app is ready before its page answers: the page of a broken app answers only once its owner has repaired it.
  const ready = yield* termination.apply(app, AppTransition.Serve({ expiresAt: sandbox.expiresAt }))
  if (Option.isNone(ready)) return yield* new AppNotFound()
  yield* guest.serve(sandbox, app.port)
  return ready.value
})

const reconcileOne = Effect.fnUntraced(function* ({ provider, termination, times }: Services, app: AppSandbox) {
  const found = isActive(app) ? yield* provider.find(app.name) : Option.none()
  const decision = decide(app, found, times, yield* DateTime.now)
  // Every write requires the row that the decision was made for.
  if (decision._tag === "Apply") yield* termination.applyIfUnchanged(app, decision.move)
  if (decision._tag === "Terminate") yield* termination.terminateIfUnchanged(app, decision.reason)
  if (decision._tag === "RemoveSandbox") yield* termination.removeSandbox(app)
})

const reconcile = (services: Services) =>
  Effect.gen(function* () {
    const { store, termination } = services
    const due = yield* store.claimDue(yield* DateTime.now, yield* termination.newLeaseExpiry, rowsAPass)
    for (const app of due) {
      // A failure does not delay the others: the app is due again when its lease expires.
      yield* Effect.catch(reconcileOne(services, app), (failure) =>
        Effect.logWarning("Failed to reconcile app", { app: app.name, state: app.state }, failure)
      )
    }
    return due.length
  }).pipe(Effect.withSpan("AppSandboxes.reconcile"))

const isOver = ({ state }: AppSandbox): boolean => state === "ending" || state === "ended"

/** Why an app could not be provisioned, for its owner. */
const reasonOf = (failure: Exclude<StartFailure, AppSuperseded>): FailureReason => {
  switch (failure._tag) {
    case "PageSilent":
      return transient("app_silent", "The app's page did not answer in time")
    case "SandboxGone":
    case "SandboxNotRunning":
      return transient("sandbox_stopped", "The sandbox stopped while the app was created")
    case "SandboxUnavailable":
      return providerReason(failure)
    case "ScaffoldNotReady": {
      const sentence = `The image for apps could not be prepared: ${failure.reason}`
      return failure.retryAfterMs === null
        ? permanent("app_image_not_ready", sentence)
        : transient("app_image_not_ready", sentence, failure.retryAfterMs)
    }
    case "SnapshotGone":
      return transient("snapshot_gone", "The provider no longer has the image for apps")
  }
}
