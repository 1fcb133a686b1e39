import { Context, DateTime, Effect, Layer, Option } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { AppTransition, AppliedAppTransition, allowedTransitions } from "./AppLifecycle.ts"
import { type AppSandbox, isActive } from "./AppSandbox.ts"
import { AppStore } from "./AppStore.ts"
import type { AppTimes } from "./AppTimes.ts"

/** Moves of apps, and the one that ends them: written first, done then, so that whoever is cut off leaves no riddle. */
export class AppTermination extends Context.Service<
  AppTermination,
  {
    /** Writes a move of an app, whatever else is written of it meanwhile; none once it is not legal any more. */
    readonly apply: (app: AppSandbox, move: AppTransition) => Effect.Effect<Option.Option<AppSandbox>>
    /** Writes a move of an app as it was seen; none where that is not legal, or something else was written since. */
    readonly applyIfUnchanged: (app: AppSandbox, move: AppTransition) => Effect.Effect<Option.Option<AppSandbox>>
    /** Until when who begins something with an app now is taken to be at it. */
    readonly newLeaseExpiry: Effect.Effect<DateTime.Utc>
    /**
     * Ends an app for good. One that somebody is bringing up may get its sandbox only now: it is looked after again, and
     * finished, when its maker can't be at it any more.
     */
    readonly terminate: (app: AppSandbox, reason: string | null) => Effect.Effect<void, SandboxUnavailable>
    /** Ends an app as it was seen; nothing happens where something else was written since. */
    readonly terminateIfUnchanged: (app: AppSandbox, reason: string | null) => Effect.Effect<void, SandboxUnavailable>
    /** Nothing stays of an app that is to end, and that nobody can be bringing up any more. */
    readonly removeSandbox: (app: AppSandbox) => Effect.Effect<void, SandboxUnavailable>
    /** For the maker of an app that came to nothing: it ends, unless somebody else has brought it up. */
    readonly rollBack: (app: AppSandbox, reason: string) => Effect.Effect<void, SandboxUnavailable>
  }
>()("domain/app/AppTermination") {
  static readonly layer = (times: AppTimes) =>
    Layer.effect(
      AppTermination,
      Effect.gen(function* () {
        const store = yield* AppStore
        const provider = yield* SandboxProvider

        const until = Effect.map(DateTime.now, (now) => DateTime.addDuration(now, times.lease))

        const moveAsSeen = Effect.fnUntraced(function* (app: AppSandbox, wanted: AppTransition) {
          const step = AppliedAppTransition.of(app, wanted, yield* DateTime.now)
          if (Option.isNone(step)) return Option.none<AppSandbox>()
          const taken = yield* store.compareAndSet(AccountScope.ofOwner(app), [step.value])
          return taken ? Option.some(step.value.app) : Option.none()
        })

        /** Does it with the app as it was given, and again as it is by now, until it worked or is not wanted any more. */
        const persist = Effect.fnUntraced(function* (
          first: AppSandbox,
          wanted: AppTransition,
          isWanted: (app: AppSandbox) => boolean
        ) {
          let app = Option.some(first)
          while (Option.isSome(app) && isWanted(app.value)) {
            const moved = yield* moveAsSeen(app.value, wanted)
            if (Option.isSome(moved)) return moved
            app = yield* store.get(AccountScope.ofOwner(first), first.name)
          }
          return Option.none<AppSandbox>()
        })

        const move = (app: AppSandbox, wanted: AppTransition) =>
          persist(app, wanted, ({ state }) => allowedTransitions[wanted._tag].includes(state))

        const finish = Effect.fn("AppTermination.finish")(function* (app: AppSandbox) {
          yield* provider.remove(app.name)
          yield* move(app, AppTransition.MarkEnded())
        })

        const toEnd = (reason: string | null) =>
          Effect.map(until, (until) => AppTransition.Terminate({ reason, leaseExpiresAt: until }))

        /** Ends an app by such a write; one that was starting is finished later, since its maker may still be at it. */
        const endBy = (write: typeof move) =>
          Effect.fnUntraced(function* (app: AppSandbox, reason: string | null) {
            const ending = yield* write(app, yield* toEnd(reason))
            if (Option.isSome(ending))
              yield* app.state === "starting" ? provider.remove(app.name) : finish(ending.value)
          })

        const end = (app: AppSandbox, reason: string | null) =>
          // Whoever wrote that it is to end, or comes by later, finishes it.
          app.state === "ending" ? provider.remove(app.name) : endBy(move)(app, reason)

        const withdraw = Effect.fn("AppTermination.withdraw")(function* (app: AppSandbox, reason: string) {
          const known = yield* store.get(AccountScope.ofOwner(app), app.name)
          const starting = Option.filter(known, ({ state }) => state === "starting")
          if (Option.isSome(starting)) {
            yield* persist(starting.value, yield* toEnd(reason), ({ state }) => state === "starting")
          }
          const now = yield* store.get(AccountScope.ofOwner(app), app.name)
          if (!Option.exists(now, isActive)) yield* provider.remove(app.name)
        })

        return AppTermination.of({
          apply: move,
          applyIfUnchanged: moveAsSeen,
          newLeaseExpiry: until,
          terminate: end,
          terminateIfUnchanged: endBy(moveAsSeen),
          removeSandbox: finish,
          rollBack: withdraw
        })
      })
    )
}
