/** What somebody who looks at an app does, going by what its provider says of its sandbox. */
import { Data, DateTime, Option } from "effect"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import { AppMove } from "./AppLifecycle.ts"
import type { AppSandbox } from "./AppSandbox.ts"
import type { AppTimes } from "./AppTimes.ts"

export type Look = Data.TaggedEnum<{
  /** Write this, and no more. */
  Write: { readonly move: AppMove }
  /** End it. */
  End: { readonly reason: string | null }
  /** Nothing is to stay of it. */
  Finish: {}
  /** There is nothing to do. */
  Leave: {}
}>
export const Look = Data.taggedEnum<Look>()

export const cutOff = "The server stopped before it was ready"
export const lost = "The provider no longer has it"
export const tidied = "Its files were removed some time after it stopped"

/** What is to be done with an app whose time to be looked at has come. */
export const decide = (app: AppSandbox, found: Option.Option<Sandbox>, times: AppTimes, now: DateTime.Utc): Look => {
  const runs = Option.filter(found, ({ status }) => status === "running")
  switch (app.state) {
    case "starting":
      return Look.End({ reason: cutOff })
    case "ending":
      return Look.Finish()
    case "ended":
      return Look.Leave()
    case "ready":
    case "stopped":
      if (Option.isSome(runs)) return Look.Write({ move: AppMove.Serve({ expiresAt: runs.value.expiresAt }) })
      if (Option.isNone(found)) return Look.End({ reason: lost })
      if (app.state === "stopped") return Look.End({ reason: tidied })
      return Look.Write({
        move: AppMove.Sleep({ reason: found.value.reason, lookAt: DateTime.addDuration(now, times.keepStopped) })
      })
  }
}
