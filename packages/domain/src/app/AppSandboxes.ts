import { type Cause, Context, DateTime, Duration, Effect, Exit, Layer, Option, Schema } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
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

/** No app came to be; the one before is as it was. */
export class AppNotCreated extends Schema.TaggedError<AppNotCreated>()("AppNotCreated", {
  reason: FailureReason,
  cause: InternalCause
}) {}

/** What Vite listens on if nobody says otherwise. */
const usualPort = Port.make(5173)

/** Where sandboxes share their ports, each has one of these. */
const ownPorts = { from: 20_000, count: 10_000 } as const

/** How often it is looked whether a create of another server is done. */
const lookEvery = Duration.millis(200)

/** How much of its idle time passes before an app that is used is given more: a minute, if that is not most of it. */
const usedEvery = ({ idle }: AppTimes): Duration.Duration =>
  Duration.min(Duration.minutes(1), Duration.divideUnsafe(idle, 4))

/** Rows one pass of the reconciler takes; the next pass takes the rest. */
const rowsAPass = 100

const isSandboxName = Schema.is(SandboxName)

type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** The apps of accounts. At most one of an account is active: the last that became ready. */
export class AppSandboxes extends Context.Service<
  AppSandboxes,
  {
    /**
     * A new app whose page answers; it is the active one then, and the one before is ended. However many ask for an
     * account at once, there is one. Where it can't be made, the one before is as it was.
     */
    readonly create: (scope: AccountScope, nonce: Option.Option<string>) => Effect.Effect<AppSandbox, AppNotCreated>
    /** The app of that name, unless it was ended; the account's active one if none is named. */
    readonly find: (scope: AccountScope, name: Option.Option<string>) => Effect.Effect<AppSandbox, AppNotFound>
    /** Whether its sandbox runs. Wakes none. */
    readonly isAlive: (app: AppSandbox) => Effect.Effect<boolean, SandboxUnavailable>
    /** Ends an app for good, or all of the account's if none is named; what is not there has ended already. */
    readonly end: (scope: AccountScope, name: Option.Option<string>) => Effect.Effect<void, SandboxUnavailable>
    /** Somebody uses the app: its sandbox runs on for all of its idle time. Does nothing where that was just done. */
    readonly used: (app: AppSandbox) => Effect.Effect<void>
    /** Wakes the app's sandbox if it sleeps, and has its dev server begun. */
    readonly wake: (app: AppSandbox) => Effect.Effect<AppSandbox, AppNotFound | Idle>
    /** Does what is due, of all accounts: ends what was cut off, puts down what sleeps, removes what slept too long. */
    readonly reconcile: Effect.Effect<number>
  }
>()("domain/app/AppSandboxes") {
  static readonly layer = (times: AppTimes) =>
    Layer.effect(
      AppSandboxes,
      Effect.gen(function* () {
        const store = yield* AppStore
        const starts = yield* AppProvisioning
        const ends = yield* AppTermination
        const provider = yield* SandboxProvider
        const random = yield* SecureRandom
        const guest = yield* GuestScripts

        const portFor = Effect.gen(function* () {
          if (!provider.supports.sharesPorts) return usualPort
          const [a = 0, b = 0] = yield* random.randomBytes(2)
          return Port.make(ownPorts.from + ((a * 256 + b) % ownPorts.count))
        })

        /** What came of an attempt that is over; who was superseded looks at what the other made of it. */
        const ended = (exit: Exit.Exit<void, StartFailure>): Effect.Effect<void, AppNotCreated> => {
          if (Exit.isSuccess(exit)) return Effect.void
          const failure = Exit.findErrorOption(exit)
          if (Option.isNone(failure)) return Effect.failCause(exit.cause as Cause.Cause<never>)
          return failure.value._tag === "AppSuperseded"
            ? Effect.void
            : Effect.fail(new AppNotCreated({ reason: reasonOf(failure.value), cause: exit.cause }))
        }

        /** Takes over an app whose maker was silent for too long; none if somebody was faster. */
        const takeOver = (app: AppSandbox) =>
          Effect.flatMap(ends.newLeaseExpiry, (until) =>
            ends.applyIfUnchanged(app, AppTransition.RenewLease({ leaseExpiresAt: until }))
          )

        /** Completes when an app that is being brought up is up; goes on with it if nobody does. */
        const settled = Effect.fnUntraced(function* (scope: AccountScope, first: AppSandbox) {
          let app = first
          while (app.state === "starting") {
            const isLeft = isExpired(app.nextCheckAt, yield* DateTime.now)
            const mine: Option.Option<AppSandbox> = isLeft ? yield* takeOver(app) : Option.none()
            if (Option.isSome(mine)) yield* Effect.flatMap(starts.provision(mine.value), ended)
            else yield* Effect.sleep(lookEvery)
            const fresh: Option.Option<AppSandbox> = yield* store.get(scope, app.name)
            if (Option.isNone(fresh)) break
            app = fresh.value
          }
          if (isActive(app)) return app
          const cause = new Error(`${app.name} is ${app.state}: ${app.reason ?? "its owner ended it"}`)
          return yield* new AppNotCreated({
            reason: transient("app_ended", "The app was ended while it was made"),
            cause
          })
        })

        const create = Effect.fn("AppSandboxes.create")(
          function* (scope: AccountScope, nonce: Option.Option<string>) {
            const name = SandboxName.make(`app-${yield* givenOrNew(random, nonce)}`)
            const wanted = new AppSandbox({
              name,
              account: scope.account,
              state: "starting",
              version: 0,
              port: yield* portFor,
              createdAt: yield* DateTime.now,
              expiresAt: null,
              nextCheckAt: yield* ends.newLeaseExpiry,
              reason: null
            })
            const stands = yield* store.begin(scope, wanted)
            if (Option.isNone(stands)) return yield* Effect.die(new Error("a new app's name is another account's"))
            const app = stands.value
            if (app.name === name && app.state === "starting") yield* Effect.flatMap(starts.provision(app), ended)
            const fresh = yield* store.get(scope, app.name)
            return yield* settled(
              scope,
              Option.getOrElse(fresh, () => app)
            )
          },
          trackOutcome(metrics.creates, { kind: "app" }, "outcome")
        )

        const find = Effect.fn("AppSandboxes.find")(function* (scope: AccountScope, name: Option.Option<string>) {
          const found = Option.isNone(name)
            ? yield* store.active(scope)
            : isSandboxName(name.value)
              ? yield* store.get(scope, name.value)
              : Option.none<AppSandbox>()
          if (Option.isNone(found) || isOver(found.value)) return yield* new AppNotFound()
          return found.value
        })

        const end = Effect.fn("AppSandboxes.end")(function* (scope: AccountScope, name: Option.Option<string>) {
          const all = (yield* store.listLive(scope)).filter((app) => Option.isNone(name) || app.name === name.value)
          // One that can't be ended does not keep the others.
          const exits = yield* Effect.forEach(all, (app) => Effect.exit(ends.terminate(app, null)), { concurrency: 4 })
          for (const exit of exits) yield* exit
        })

        const used = Effect.fn("AppSandboxes.used")(
          function* (app: AppSandbox) {
            if (app.state !== "ready" || app.expiresAt === null) return
            const now = yield* DateTime.now
            // Bounded for a clock that was stepped: an app is never given more than its time.
            const left = Math.max(0, app.expiresAt.epochMilliseconds - now.epochMilliseconds)
            const missing = Duration.toMillis(times.idle) - left
            if (missing < Duration.toMillis(usedEvery(times))) return
            // Of many who use it at once, one gives it more.
            const wanted = AppTransition.Serve({ expiresAt: DateTime.addDuration(now, times.idle) })
            const mine = yield* ends.applyIfUnchanged(app, wanted)
            if (Option.isNone(mine)) return
            const before = AppTransition.Serve({ expiresAt: app.expiresAt })
            const { expiresAt } = yield* provider
              .extend(app.name, Duration.millis(missing))
              .pipe(Effect.tapError(() => ends.applyIfUnchanged(mine.value, before)))
            yield* ends.apply(mine.value, AppTransition.Serve({ expiresAt }))
          },
          (using) => Effect.ignore(using)
        )

        const wake = Effect.fn("AppSandboxes.wake")(function* (app: AppSandbox) {
          const sandbox = yield* provider.resume(app.name, times.idle)
          // Written at once: its page may not answer before what is wrong with it is mended.
          const awake = yield* ends.apply(app, AppTransition.Serve({ expiresAt: sandbox.expiresAt }))
          if (Option.isNone(awake)) return yield* new AppNotFound()
          yield* guest.serve(sandbox, app.port)
          return awake.value
        })

        const lookAt = Effect.fnUntraced(function* (app: AppSandbox) {
          const found = isActive(app) ? yield* provider.find(app.name) : Option.none()
          const look = decide(app, found, times, yield* DateTime.now)
          // What it was decided for is what it is done to.
          if (look._tag === "Apply") yield* ends.applyIfUnchanged(app, look.move)
          if (look._tag === "Terminate") yield* ends.terminateIfUnchanged(app, look.reason)
          if (look._tag === "RemoveSandbox") yield* ends.removeSandbox(app)
        })

        const reconcile = Effect.gen(function* () {
          const due = yield* store.claimDue(yield* DateTime.now, yield* ends.newLeaseExpiry, rowsAPass)
          for (const app of due) {
            // One that can't be dealt with does not keep the others: it is due again later.
            yield* Effect.catch(lookAt(app), (failure) => Effect.logWarning("an app could not be looked at", failure))
          }
          return due.length
        }).pipe(Effect.withSpan("AppSandboxes.reconcile"))

        return AppSandboxes.of({
          create,
          find,
          isAlive: ({ name }) =>
            Effect.map(
              provider.find(name),
              Option.exists(({ status }) => status === "running")
            ),
          end,
          used,
          wake,
          reconcile
        })
      })
    )
}

const isOver = ({ state }: AppSandbox): boolean => state === "ending" || state === "ended"

/** Why an app could not be brought up, for its owner. */
const reasonOf = (failure: Exclude<StartFailure, AppSuperseded>): FailureReason => {
  switch (failure._tag) {
    case "PageSilent":
      return transient("app_silent", "The app's page did not answer in time")
    case "SandboxGone":
    case "SandboxNotRunning":
      return transient("sandbox_stopped", "The sandbox stopped while the app was made")
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
