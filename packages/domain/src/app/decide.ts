/** Decides what the reconciler does with an app, from its row, its sandbox and the time. */
import { Data, DateTime, Option } from "effect"
import type { ChangeReason } from "../ChangeReason.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import { AppTransition } from "./AppLifecycle.ts"
import type { AppSandbox } from "./AppSandbox.ts"
import type { AppTimes } from "./AppTimes.ts"

export type AppDecision = Data.TaggedEnum<{
  /** Apply this transition. */
  Apply: { readonly move: AppTransition }
  /** End it. */
  Terminate: { readonly reason: ChangeReason }
  /** Nothing is to stay of it. */
  RemoveSandbox: {}
  /** Do nothing. */
  Nothing: {}
}>
export const AppDecision = Data.taggedEnum<AppDecision>()

export const cutOff: ChangeReason = { code: "provision_failed", sentence: "The server stopped before it was ready" }
export const lost: ChangeReason = { code: "provider_lost", sentence: "The provider no longer has it" }
export const tidied: ChangeReason = {
  code: "retention_over",
  sentence: "Its files were removed some time after it stopped"
}

/** The reconciler's decision on a due app. */
export const decide = (
  app: AppSandbox,
  found: Option.Option<Sandbox>,
  times: AppTimes,
  now: DateTime.Utc
): AppDecision => {
  const runs = Option.filter(found, ({ status }) => status === "running")
  switch (app.state) {
    case "starting":
      return AppDecision.Terminate({ reason: cutOff })
    case "ending":
      return AppDecision.RemoveSandbox()
    case "ended":
      return AppDecision.Nothing()
    case "ready":
    case "stopped":
      if (Option.isSome(runs))
        return AppDecision.Apply({ move: AppTransition.Serve({ expiresAt: runs.value.expiresAt }) })
      if (Option.isNone(found)) return AppDecision.Terminate({ reason: lost })
      if (app.state === "stopped") return AppDecision.Terminate({ reason: tidied })
      return AppDecision.Apply({
        move: AppTransition.MarkStopped({
          reason: { code: "stopped", sentence: found.value.reason },
          nextCheckAt: DateTime.addDuration(now, times.keepStopped)
        })
      })
  }
}
