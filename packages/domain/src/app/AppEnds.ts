import { Context, DateTime, Effect, Layer, Option } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { AppMove, AppStep } from "./AppLifecycle.ts"
import { activeStates, type AppSandbox } from "./AppSandbox.ts"
import { AppStore } from "./AppStore.ts"
import type { AppTimes } from "./AppTimes.ts"

/** Moves of apps, and the one that ends them: written first, done then, so that whoever is cut off leaves no riddle. */
export class AppEnds extends Context.Service<
  AppEnds,
  {
    /** Writes a move of an app, whatever else is written of it meanwhile; none once it is not legal any more. */
    readonly move: (app: AppSandbox, move: AppMove) => Effect.Effect<Option.Option<AppSandbox>>
    /** Until when who begins something with an app now is taken to be at it. */
    readonly until: Effect.Effect<DateTime.Utc>
    /**
     * Ends an app for good, and what was to end already. One that somebody is bringing up may get its sandbox only now:
     * it is ended again when its maker can't be at it any more.
     */
    readonly end: (app: AppSandbox, reason: string | null) => Effect.Effect<void, SandboxUnavailable>
    /** For the maker of an app that came to nothing: nothing of it stays, whatever was written of it meanwhile. */
    readonly withdraw: (app: AppSandbox, reason: string) => Effect.Effect<void, SandboxUnavailable>
  }
>()("domain/app/AppEnds") {
  static readonly layer = (times: AppTimes) =>
    Layer.effect(
      AppEnds,
      Effect.gen(function* () {
        const store = yield* AppStore
        const provider = yield* SandboxProvider

        const until = Effect.map(DateTime.now, (now) => DateTime.addDuration(now, times.lease))

        const move = Effect.fnUntraced(function* (first: AppSandbox, wanted: AppMove) {
          const scope = AccountScope.ofOwner(first)
          let app = Option.some(first)
          while (Option.isSome(app)) {
            const step = AppStep.of(app.value, wanted, yield* DateTime.now)
            if (Option.isNone(step)) return Option.none<AppSandbox>()
            if (yield* store.take(scope, [step.value])) return Option.some(step.value.app)
            app = yield* store.get(scope, first.name)
          }
          return app
        })

        const begin = Effect.fnUntraced(function* (app: AppSandbox, reason: string | null) {
          return yield* move(app, AppMove.End({ reason, until: yield* until }))
        })

        const finish = (app: AppSandbox) => Effect.andThen(provider.remove(app.name), move(app, AppMove.Forget()))

        const end = Effect.fn("AppEnds.end")(function* (app: AppSandbox, reason: string | null) {
          if (app.state === "ending") return yield* Effect.asVoid(finish(app))
          const ending = yield* begin(app, reason)
          if (Option.isNone(ending)) return
          yield* app.state === "starting" ? provider.remove(app.name) : finish(ending.value)
        })

        const withdraw = Effect.fn("AppEnds.withdraw")(function* (app: AppSandbox, reason: string) {
          yield* begin(app, reason)
          const known = yield* store.get(AccountScope.ofOwner(app), app.name)
          // Somebody else has brought it up, and it serves.
          if (Option.exists(known, ({ state }) => activeStates.includes(state))) return
          yield* finish(Option.getOrElse(known, () => app))
        })

        return AppEnds.of({ move, until, end, withdraw })
      })
    )
}
