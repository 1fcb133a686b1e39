import { Context, Effect, Layer, Option, Schema, type Scope } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import type { Port, PortConnection } from "../sandbox/Port.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { AppSandboxes } from "./AppSandboxes.ts"
import { AppStore } from "./AppStore.ts"

/** There is no page to be had: it is still starting, or it has stopped for good or for now, or never was. */
export class PreviewUnavailable extends Schema.TaggedError<PreviewUnavailable>()("PreviewUnavailable", {
  state: Schema.Literals(["starting", "stopped"])
}) {}

/** What whoever knows the name of an app's sandbox sees of it. */
export class AppPreviews extends Context.Service<
  AppPreviews,
  {
    /** A connection to the app's dev server, closed with its scope; it counts as use of the app. Wakes none. */
    readonly connect: (
      name: SandboxName,
      port: Port
    ) => Effect.Effect<PortConnection, PreviewUnavailable | SandboxUnavailable, Scope.Scope>
  }
>()("domain/app/AppPreviews") {
  static readonly layer = Layer.effect(
    AppPreviews,
    Effect.gen(function* () {
      const store = yield* AppStore
      const apps = yield* AppSandboxes
      const provider = yield* SandboxProvider

      const connect = Effect.fn("AppPreviews.connect")(function* (name: SandboxName, port: Port) {
        const owner = yield* store.ownerOf(name)
        if (Option.isNone(owner)) return yield* new PreviewUnavailable({ state: "stopped" })
        const found = yield* store.get(AccountScope.ofOwner({ account: owner.value }), name)
        const app = Option.getOrUndefined(Option.filter(found, (app) => app.port === port))
        if (app?.state === "starting") return yield* new PreviewUnavailable({ state: "starting" })
        if (app?.state !== "ready") return yield* new PreviewUnavailable({ state: "stopped" })
        yield* apps.used(app)
        return yield* provider.connect(name, port).pipe(
          Effect.catchTags({
            // The dev server is being started again, or soon will be.
            PortClosed: () => new PreviewUnavailable({ state: "starting" }),
            SandboxGone: () => new PreviewUnavailable({ state: "stopped" }),
            SandboxNotRunning: () => new PreviewUnavailable({ state: "stopped" })
          })
        )
      })

      return AppPreviews.of({ connect })
    })
  )
}
