/** What may become of an app's sandbox, step by step. Nothing else can be written: stores take nothing but steps. */
import { Data, type DateTime, Option } from "effect"
import { SandboxEvent, type SandboxEventType } from "../sandbox/SandboxEvent.ts"
import { AppSandbox, type AppState } from "./AppSandbox.ts"

/** What somebody wants to happen to an app. */
export type AppTransition = Data.TaggedEnum<{
  /** Go on with what was begun, and have until then. */
  RenewLease: { readonly leaseExpiresAt: DateTime.Utc }
  /** Its page answers, and its provider stops it at `expiresAt`. */
  Serve: { readonly expiresAt: DateTime.Utc }
  /** Its sandbox has stopped and keeps its files; they are looked at again at `lookAt`. */
  MarkStopped: { readonly reason: string | null; readonly nextCheckAt: DateTime.Utc }
  /** It is to go for good; whoever comes by at `until` at the latest sees to it. */
  Terminate: { readonly reason: string | null; readonly leaseExpiresAt: DateTime.Utc }
  /** Its provider has forgotten it. */
  MarkEnded: {}
}>
export const AppTransition = Data.taggedEnum<AppTransition>()

/** The states that each move may begin in. What is not here is not legal. */
export const allowedTransitions: Record<AppTransition["_tag"], ReadonlyArray<AppState>> = {
  RenewLease: ["starting", "ending"],
  Serve: ["starting", "ready", "stopped"],
  MarkStopped: ["ready"],
  Terminate: ["starting", "ready", "stopped"],
  MarkEnded: ["ending"]
}

/** A legal step: the app as it is to be, and what is told of it. Only `AppStep.of` makes one. */
export class AppliedAppTransition {
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
  static readonly of = (
    app: AppSandbox,
    move: AppTransition,
    now: DateTime.Utc
  ): Option.Option<AppliedAppTransition> => {
    if (!allowedTransitions[move._tag].includes(app.state)) return Option.none()
    const next = new AppSandbox({ ...app, ...changeOf(move), version: app.version + 1 })
    return Option.some(new AppliedAppTransition(next, next.state === app.state ? null : eventFor(next, now)))
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
export const eventFor = ({ account, name, reason, state }: AppSandbox, at: DateTime.Utc): SandboxEvent =>
  new SandboxEvent({ account, type: types[state], sandbox: name, session: null, reason, at })

const changeOf = (move: AppTransition): Partial<AppSandbox> => {
  switch (move._tag) {
    case "RenewLease":
      return { nextCheckAt: move.leaseExpiresAt }
    case "Serve":
      return { state: "ready", expiresAt: move.expiresAt, nextCheckAt: move.expiresAt, reason: null }
    case "MarkStopped":
      return { state: "stopped", nextCheckAt: move.nextCheckAt, reason: move.reason }
    case "Terminate":
      return { state: "ending", nextCheckAt: move.leaseExpiresAt, reason: move.reason }
    case "MarkEnded":
      return { state: "ended", nextCheckAt: null }
  }
}
