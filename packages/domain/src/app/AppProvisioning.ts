/** Provisions the sandboxes of apps. */
import { Cause, Context, DateTime, Effect, Exit, Fiber, FiberSet, Layer, Option, Schema } from "effect"
import type { ChangeReason } from "../ChangeReason.ts"
import { AccountScope } from "../identity/AccountScope.ts"
import { whileRenewing } from "../lifecycle/Lease.ts"
import type { Port } from "../sandbox/Port.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import {
  type SandboxGone,
  type SandboxNotRunning,
  SandboxProvider,
  type SandboxUnavailable,
  type SnapshotGone
} from "../sandbox/SandboxProvider.ts"
import { annotateIds } from "../Metrics.ts"
import { AppTermination } from "./AppTermination.ts"
import { applyAppTransition, AppTransition } from "./AppLifecycle.ts"
import { type AppSandbox, isActive } from "./AppSandbox.ts"
import { AppStore } from "./AppStore.ts"
import type { AppTimes } from "./AppTimes.ts"
import { GuestScripts } from "./guest/GuestScripts.ts"
import { type ScaffoldNotReady, Scaffolds } from "./project/Scaffolds.ts"

/** The sandbox runs, but the app's page does not answer. */
export class PageSilent extends Schema.TaggedError<PageSilent>()("PageSilent", { name: SandboxName }) {}

/** Another worker took the app over, or terminated it: the result of this attempt does not count. */
export class AppSuperseded extends Schema.TaggedError<AppSuperseded>()("AppSuperseded", {}) {}

type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Why an app could not be provisioned. */
export type StartFailure = AppSuperseded | Idle | PageSilent | ScaffoldNotReady | SnapshotGone

const replaced: ChangeReason = { code: "replaced", sentence: "Another app took its place" }

const notProvisioned: ChangeReason = { code: "provision_failed", sentence: "It could not be provisioned" }

/** Provisions apps: from a row in the state `starting` to a page that answers. */
export class AppProvisioning extends Context.Service<
  AppProvisioning,
  {
    /**
     * Provisions a starting app and makes it the active one. Where that fails the app is terminated, unless another
     * worker has made it active. Each step can be repeated, so a worker that takes over starts with the first. The work
     * continues when the caller is interrupted.
     */
    readonly provision: (app: AppSandbox) => Effect.Effect<Exit.Exit<void, StartFailure>>
  }
>()("domain/app/AppProvisioning") {
  static readonly layer = (times: AppTimes) => Layer.effect(AppProvisioning, make(times))
}

const make = Effect.fnUntraced(function* (times: AppTimes) {
  const store = yield* AppStore
  const termination = yield* AppTermination
  const scaffolds = yield* Scaffolds
  const provider = yield* SandboxProvider
  const guest = yield* GuestScripts
  const working = yield* FiberSet.make<Exit.Exit<void, StartFailure>>()

  const createSandbox = Effect.fnUntraced(function* (app: AppSandbox) {
    const create = Effect.flatMap(scaffolds.snapshot, (from) =>
      provider.create({
        name: app.name,
        from: Option.some(from),
        lifetime: times.idle,
        ports: [app.port],
        registry: true
      })
    )
    return yield* create.pipe(Effect.catchTag("SnapshotGone", ({ id }) => Effect.andThen(scaffolds.lost(id), create)))
  })

  const serve = Effect.fnUntraced(function* (sandbox: Sandbox, port: Port) {
    yield* guest.serve(sandbox, port)
    const answered = yield* guest.awaitAnswer(sandbox.name, port, times.answerWithin)
    if (Option.isNone(answered)) return yield* new PageSilent({ name: sandbox.name })
  })

  /** Activates a starting app and terminates the active one in one write; gives the terminated one. */
  const activate = Effect.fnUntraced(function* (started: AppSandbox, expiresAt: DateTime.Utc) {
    const scope = AccountScope.ofOwner(started)
    let app = started
    while (app.state === "starting") {
      const now = yield* DateTime.now
      const before = yield* store.active(scope)
      const leaseExpiresAt = yield* termination.newLeaseExpiry
      const terminate = AppTransition.Terminate({ reason: replaced, leaseExpiresAt })
      const retired = Option.flatMap(before, (one) => applyAppTransition(one, terminate, now))
      const active = applyAppTransition(app, AppTransition.Serve({ expiresAt }), now)
      const transitions = [...Option.toArray(retired), ...Option.toArray(active)]
      if (yield* store.compareAndSet(scope, transitions)) return Option.map(retired, ({ after }) => after)
      const latest: Option.Option<AppSandbox> = yield* store.get(scope, app.name)
      if (Option.isNone(latest)) break
      app = latest.value
    }
    return yield* new AppSuperseded()
  })

  const renewLease = Effect.fnUntraced(function* (app: AppSandbox) {
    const leaseExpiresAt = yield* termination.newLeaseExpiry
    return Option.isSome(yield* termination.apply(app, AppTransition.RenewLease({ leaseExpiresAt })))
  })

  /** Interrupts the work on an app whose lease was lost, unless this worker has activated the app. */
  const onLeaseLost = Effect.fnUntraced(function* (app: AppSandbox): Effect.fn.Return<never, AppSuperseded> {
    const known = yield* store.get(AccountScope.ofOwner(app), app.name)
    return Option.exists(known, isActive) ? yield* Effect.never : yield* new AppSuperseded()
  })

  const start = Effect.fn("AppProvisioning.start")(function* (app: AppSandbox) {
    const sandbox = yield* createSandbox(app)
    yield* serve(sandbox, app.port)
    return yield* activate(app, sandbox.expiresAt)
  })

  /** A server that shuts down leaves the app as it is: another worker takes over its lease, or terminates it. */
  const giveUp = (app: AppSandbox) => (cause: Cause.Cause<StartFailure>) =>
    Cause.hasInterruptsOnly(cause)
      ? Effect.void
      : Effect.logWarning("Failed to provision app", cause).pipe(
          Effect.andThen(Effect.ignore(termination.rollBack(app, notProvisioned)))
        )

  const provision = Effect.fnUntraced(function* (app: AppSandbox) {
    const work = whileRenewing(start(app), { lease: times.lease, renew: renewLease(app), lost: onLeaseLost(app) }).pipe(
      annotateIds({ account: app.account, sandbox: app.name }),
      Effect.tapCause(giveUp(app)),
      // A failed removal does not fail the new app: the reconciler repeats it.
      Effect.flatMap((retired) =>
        Option.isSome(retired) ? Effect.ignore(termination.removeSandbox(retired.value)) : Effect.void
      ),
      Effect.exit
    )
    return yield* Effect.flatMap(FiberSet.run(working, work), Fiber.join)
  })

  return AppProvisioning.of({ provision })
})
