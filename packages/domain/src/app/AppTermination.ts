/** Writes transitions of apps, and terminates apps: the intent is written before the sandbox is removed. */
import { Context, type DateTime, Effect, Layer, Option } from "effect"
import type { ChangeReason } from "../ChangeReason.ts"
import { AccountScope } from "../identity/AccountScope.ts"
import { applyIfUnchanged, applyToLatest } from "../lifecycle/compareAndSet.ts"
import { newExpiry } from "../lifecycle/Lease.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { appMachine, AppTransition } from "./AppLifecycle.ts"
import { type AppSandbox, isActive } from "./AppSandbox.ts"
import { AppStore } from "./AppStore.ts"
import type { AppTimes } from "./AppTimes.ts"

export class AppTermination extends Context.Service<
  AppTermination,
  {
    /** Applies a transition to the latest row of an app; none once it is not allowed any more. */
    readonly apply: (app: AppSandbox, transition: AppTransition) => Effect.Effect<Option.Option<AppSandbox>>
    /** Applies a transition to an app as it was read; none if it is not allowed or another write came first. */
    readonly applyIfUnchanged: (app: AppSandbox, transition: AppTransition) => Effect.Effect<Option.Option<AppSandbox>>
    /** When a lease on an app that is taken now expires. */
    readonly newLeaseExpiry: Effect.Effect<DateTime.Utc>
    /**
     * Terminates an app. A worker may create the sandbox of a starting app after this: the reconciler removes that
     * sandbox once the worker's lease has expired.
     */
    readonly terminate: (app: AppSandbox, reason: ChangeReason) => Effect.Effect<void, SandboxUnavailable>
    /** Terminates an app as it was read; does nothing where another write came first. */
    readonly terminateIfUnchanged: (app: AppSandbox, reason: ChangeReason) => Effect.Effect<void, SandboxUnavailable>
    /** Removes the sandbox of an app that is ending, and marks it ended. */
    readonly removeSandbox: (app: AppSandbox) => Effect.Effect<void, SandboxUnavailable>
    /** Terminates an app whose provisioning failed, unless another worker has made it active. */
    readonly rollBack: (app: AppSandbox, reason: ChangeReason) => Effect.Effect<void, SandboxUnavailable>
  }
>()("domain/app/AppTermination") {
  static readonly layer = (times: AppTimes) => Layer.effect(AppTermination, make(times))
}

const make = Effect.fnUntraced(function* (times: AppTimes) {
  const store = yield* AppStore
  const provider = yield* SandboxProvider

  const newLeaseExpiry = newExpiry(times.lease)

  const read = (app: AppSandbox) => store.get(AccountScope.ofOwner(app), app.name)

  const ifUnchanged = (app: AppSandbox, transition: AppTransition) =>
    applyIfUnchanged(appMachine, (one) => store.compareAndSet(AccountScope.ofOwner(app), [one]), app, transition)

  const toLatest = (app: AppSandbox, transition: AppTransition, isWanted?: (app: AppSandbox) => boolean) =>
    applyToLatest(
      appMachine,
      (one) => store.compareAndSet(AccountScope.ofOwner(app), [one]),
      read(app),
      app,
      transition,
      isWanted
    )

  const removeSandbox = Effect.fn("AppTermination.removeSandbox")(function* (app: AppSandbox) {
    yield* provider.remove(app.name)
    yield* toLatest(app, AppTransition.MarkEnded())
  })

  const newTermination = (reason: ChangeReason) =>
    Effect.map(newLeaseExpiry, (leaseExpiresAt) => AppTransition.Terminate({ reason, leaseExpiresAt }))

  /**
   * Terminates an app with the given write. The worker of a starting app may still create the sandbox, so that app stays
   * `ending` and the reconciler removes it again.
   */
  const terminateBy = (write: typeof ifUnchanged) =>
    Effect.fnUntraced(function* (app: AppSandbox, reason: ChangeReason) {
      const ending = yield* write(app, yield* newTermination(reason))
      if (Option.isNone(ending)) return
      yield* app.state === "starting" ? provider.remove(app.name) : removeSandbox(ending.value)
    })

  const terminate = (app: AppSandbox, reason: ChangeReason) =>
    // Another worker terminated it: that worker or the reconciler marks it ended.
    app.state === "ending" ? provider.remove(app.name) : terminateBy(toLatest)(app, reason)

  const rollBack = Effect.fn("AppTermination.rollBack")(function* (app: AppSandbox, reason: ChangeReason) {
    const known = yield* read(app)
    if (Option.isSome(known)) {
      yield* toLatest(known.value, yield* newTermination(reason), ({ state }) => state === "starting")
    }
    if (!Option.exists(yield* read(app), isActive)) yield* provider.remove(app.name)
  })

  return AppTermination.of({
    apply: toLatest,
    applyIfUnchanged: ifUnchanged,
    newLeaseExpiry,
    terminate,
    terminateIfUnchanged: terminateBy(ifUnchanged),
    removeSandbox,
    rollBack
  })
})
