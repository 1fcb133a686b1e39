import { Context, Effect, Layer, Option, Schema, type Scope } from "effect"
import { AccountScope } from "../identity/AccountScope.ts"
import type { Port, PortConnection } from "../sandbox/Port.ts"
import type { SandboxName } from "../sandbox/SandboxName.ts"
import { SandboxProvider, type SandboxUnavailable } from "../sandbox/SandboxProvider.ts"
import { AppSandboxes } from "./AppSandboxes.ts"
import { AppStore } from "./AppStore.ts"

/** The app has no page to show. `stopped` includes apps that ended or never existed. */
export class PreviewUnavailable extends Schema.TaggedError<PreviewUnavailable>()("PreviewUnavailable", {
  state: Schema.Literals(["starting", "stopped"])
}) {}

/** Connects visitors to the dev server of an app. Knowing the sandbox's name is enough; there is no account check. */
export class AppPreviews extends Context.Service<
  AppPreviews,
  {
    /**
     * Opens a connection to the app's dev server, which closes with its scope. Counts as activity of the app. Resumes
     * no sandbox.
     */
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
        yield* apps.recordActivity(app)
        return yield* provider.connect(name, port).pipe(
          Effect.catchTags({
            // The supervisor restarts the dev server.
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
