/** What may become of an app's sandbox, step by step. Nothing else can be written: stores take nothing but steps. */
import { Data, type DateTime, Option } from "effect"
import { SandboxEvent, type SandboxEventType } from "../sandbox/SandboxEvent.ts"
import { AppSandbox, type AppState } from "./AppSandbox.ts"

/** What somebody wants to happen to an app. */
export type AppMove = Data.TaggedEnum<{
  /** Go on with what was begun, and have until then. */
  Hold: { readonly until: DateTime.Utc }
  /** Its page answers, and its provider stops it at `expiresAt`. */
  Serve: { readonly expiresAt: DateTime.Utc }
  /** Its sandbox has stopped and keeps its files; they are looked at again at `lookAt`. */
  Sleep: { readonly reason: string | null; readonly lookAt: DateTime.Utc }
  /** It is to go for good; whoever comes by at `until` at the latest sees to it. */
  End: { readonly reason: string | null; readonly until: DateTime.Utc }
  /** Its provider has forgotten it. */
  Forget: {}
}>
export const AppMove = Data.taggedEnum<AppMove>()

/** The states that each move may begin in. What is not here is not legal. */
export const legal: Record<AppMove["_tag"], ReadonlyArray<AppState>> = {
  Hold: ["starting", "ending"],
  Serve: ["starting", "ready", "stopped"],
  Sleep: ["ready"],
  End: ["starting", "ready", "stopped"],
  Forget: ["ending"]
}

/** A legal step: the app as it is to be, and what is told of it. Only `AppStep.of` makes one. */
export class AppStep {
  /** The app as it will be, one version on. */
  readonly app: AppSandbox
  /** What is told of it; null where nothing changed that anybody would want to know. */
  readonly event: SandboxEvent | null
  readonly #made = true

  private constructor(app: AppSandbox, event: SandboxEvent | null) {
    this.app = app
    this.event = event
  }

  /** The step that a move is for an app now; none where it is not legal. */
  static readonly of = (app: AppSandbox, move: AppMove, now: DateTime.Utc): Option.Option<AppStep> => {
    if (!legal[move._tag].includes(app.state)) return Option.none()
    const next = new AppSandbox({ ...app, ...changeOf(move), version: app.version + 1 })
    return Option.some(new AppStep(next, next.state === app.state ? null : told(next, now)))
  }

  /** Whether it was made here. */
  get isStep(): boolean {
    return this.#made
  }
}

const types: Record<AppState, SandboxEventType> = {
  starting: "sandbox.pending",
  ready: "sandbox.running",
  stopped: "sandbox.stopped",
  ending: "sandbox.stopping",
  ended: "sandbox.removed"
}

/** What is told of an app that came into its state at that time. */
export const told = ({ account, name, reason, state }: AppSandbox, at: DateTime.Utc): SandboxEvent =>
  new SandboxEvent({ account, type: types[state], sandbox: name, session: null, reason, at })

const changeOf = (move: AppMove): Partial<AppSandbox> => {
  switch (move._tag) {
    case "Hold":
      return { lookAt: move.until }
    case "Serve":
      return { state: "ready", expiresAt: move.expiresAt, lookAt: move.expiresAt, reason: null }
    case "Sleep":
      return { state: "stopped", lookAt: move.lookAt, reason: move.reason }
    case "End":
      return { state: "ending", lookAt: move.until, reason: move.reason }
    case "Forget":
      return { state: "ended", lookAt: null }
  }
}
