import { Cause, Context, DateTime, Duration, Effect, Exit, Fiber, FiberSet, Layer, Option, Schema } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
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
import { AppTransition, AppliedAppTransition } from "./AppLifecycle.ts"
import { type AppSandbox, isActive } from "./AppSandbox.ts"
import { AppStore } from "./AppStore.ts"
import type { AppTimes } from "./AppTimes.ts"
import { GuestScripts } from "./guest/GuestScripts.ts"
import { type ScaffoldNotReady, Scaffolds } from "./project/Scaffolds.ts"

/** The page of a sandbox that runs does not answer. */
export class PageSilent extends Schema.TaggedError<PageSilent>()("PageSilent", { name: SandboxName }) {}

/** Somebody else went on with the app, or ended it: what was begun here no longer counts. */
export class AppSuperseded extends Schema.TaggedError<AppSuperseded>()("AppSuperseded", {}) {}

type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable

/** Why an app could not be brought up. */
export type StartFailure = AppSuperseded | Idle | PageSilent | ScaffoldNotReady | SnapshotGone

/** Bringing apps up, from a row that says so to a page that answers. */
export class AppProvisioning extends Context.Service<
  AppProvisioning,
  {
    /**
     * Brings a starting app up and makes it the active one; ends it where that can't be done, unless somebody else has
     * done it. Each step may be repeated: whoever goes on for one who was cut off begins at the first. It goes on if who
     * asked does not wait.
     */
    readonly provision: (app: AppSandbox) => Effect.Effect<Exit.Exit<void, StartFailure>>
  }
>()("domain/app/AppProvisioning") {
  static readonly layer = (times: AppTimes) =>
    Layer.effect(
      AppProvisioning,
      Effect.gen(function* () {
        const store = yield* AppStore
        const ends = yield* AppTermination
        const scaffolds = yield* Scaffolds
        const provider = yield* SandboxProvider
        const guest = yield* GuestScripts
        const working = yield* FiberSet.make<Exit.Exit<void, StartFailure>>()

        const made = Effect.fnUntraced(function* (app: AppSandbox) {
          const ask = Effect.flatMap(scaffolds.snapshot, (from) =>
            provider.create({
              name: app.name,
              from: Option.some(from),
              lifetime: times.idle,
              ports: [app.port],
              registry: true
            })
          )
          return yield* ask.pipe(Effect.catchTag("SnapshotGone", ({ id }) => Effect.andThen(scaffolds.lost(id), ask)))
        })

        const serve = Effect.fnUntraced(function* (sandbox: Sandbox, port: Port) {
          yield* guest.serve(sandbox, port)
          const answered = yield* guest.awaitAnswer(sandbox.name, port, times.answerWithin)
          if (Option.isNone(answered)) return yield* new PageSilent({ name: sandbox.name })
        })

        /** Makes a started app the active one and what was active end, in one; gives what is to end. */
        const activate = Effect.fnUntraced(function* (started: AppSandbox, expiresAt: DateTime.Utc) {
          const scope = AccountScope.ofOwner(started)
          let app = started
          while (app.state === "starting") {
            const now = yield* DateTime.now
            const before = yield* store.active(scope)
            const end = AppTransition.Terminate({
              reason: "Another app took its place",
              leaseExpiresAt: yield* ends.newLeaseExpiry
            })
            const retired = Option.flatMap(before, (one) => AppliedAppTransition.of(one, end, now))
            const steps = [
              ...Option.toArray(retired),
              ...Option.toArray(AppliedAppTransition.of(app, AppTransition.Serve({ expiresAt }), now))
            ]
            if (yield* store.compareAndSet(scope, steps)) return Option.map(retired, (step) => step.app)
            const fresh: Option.Option<AppSandbox> = yield* store.get(scope, app.name)
            if (Option.isNone(fresh)) break
            app = fresh.value
          }
          return yield* new AppSuperseded()
        })

        /** Keeps an app that is being brought up; fails once it is not to be any more. */
        const keepHeld = Effect.fnUntraced(function* (app: AppSandbox): Effect.fn.Return<never, AppSuperseded> {
          do yield* Effect.sleep(Duration.divideUnsafe(times.lease, 4))
          while (
            Option.isSome(
              yield* ends.apply(app, AppTransition.RenewLease({ leaseExpiresAt: yield* ends.newLeaseExpiry }))
            )
          )
          const known = yield* store.get(AccountScope.ofOwner(app), app.name)
          // It is active: who brought it up finds that out by itself.
          return Option.exists(known, isActive) ? yield* Effect.never : yield* new AppSuperseded()
        })

        const start = Effect.fn("AppProvisioning.start")(function* (app: AppSandbox) {
          const sandbox = yield* made(app)
          yield* serve(sandbox, app.port)
          return yield* activate(app, sandbox.expiresAt)
        })

        /** A server that stops leaves the app as it is: another goes on with it, or ends it. */
        const giveUp = (app: AppSandbox) => (cause: Cause.Cause<StartFailure>) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.void
            : Effect.logWarning("no app was made", cause).pipe(
                Effect.andThen(Effect.ignore(ends.rollBack(app, "It could not be brought up")))
              )

        const bringUp = Effect.fnUntraced(function* (app: AppSandbox) {
          const work = Effect.raceFirst(start(app), keepHeld(app)).pipe(
            annotateIds({ account: app.account, sandbox: app.name }),
            Effect.tapCause(giveUp(app)),
            // What stands in the way of this is not worth failing for: the reconciler comes by later.
            Effect.flatMap((retired) =>
              Option.isSome(retired) ? Effect.ignore(ends.removeSandbox(retired.value)) : Effect.void
            ),
            Effect.exit
          )
          return yield* Effect.flatMap(FiberSet.run(working, work), Fiber.join)
        })

        return AppProvisioning.of({ provision: bringUp })
      })
    )
}
