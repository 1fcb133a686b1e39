/** The lifecycle of an app's sandbox: its transitions, where each may begin, and what each changes and emits. */
import { Data, type DateTime, type Option } from "effect"
import type { ChangeCode, ChangeReason } from "../ChangeReason.ts"
import { AppliedTransition, type StateMachine, type TransitionTable } from "../lifecycle/StateMachine.ts"
import { SandboxEvent, type SandboxEventType } from "../sandbox/SandboxEvent.ts"
import { AppSandbox, type AppState } from "./AppSandbox.ts"

/** The transitions of an app. */
export type AppTransition = Data.TaggedEnum<{
  /** Renew the lease of unfinished work, or take it over once it has expired. */
  RenewLease: { readonly leaseExpiresAt: DateTime.Utc }
  /** The app's page answers; its provider stops it at `expiresAt`. */
  Serve: { readonly expiresAt: DateTime.Utc }
  /** The sandbox has stopped and keeps its files until the next check. */
  MarkStopped: { readonly reason: ChangeReason; readonly nextCheckAt: DateTime.Utc }
  /** Start to remove the app; once the lease expires, the reconciler finishes the removal. */
  Terminate: { readonly reason: ChangeReason; readonly leaseExpiresAt: DateTime.Utc }
  /** The provider no longer has the sandbox. */
  MarkEnded: {}
}>
export const AppTransition = Data.taggedEnum<AppTransition>()

export const allowedTransitions: TransitionTable<AppTransition["_tag"], AppState> = {
  RenewLease: { starting: ["starting"], ending: ["ending"] },
  Serve: { starting: ["ready"], ready: ["ready"], stopped: ["ready"] },
  MarkStopped: { ready: ["stopped"] },
  Terminate: { starting: ["ending"], ready: ["ending"], stopped: ["ending"] },
  MarkEnded: { ending: ["ended"] }
}

const types: Record<AppState, SandboxEventType> = {
  starting: "sandbox.pending",
  ready: "sandbox.running",
  stopped: "sandbox.stopped",
  ending: "sandbox.stopping",
  ended: "sandbox.removed"
}

const eventFor = ({ account, name, reason, state }: AppSandbox, code: ChangeCode, at: DateTime.Utc): SandboxEvent =>
  new SandboxEvent({ account, type: types[state], sandbox: name, session: null, code, reason, at })

/** The event of a new app. */
export const createdEvent = (app: AppSandbox): SandboxEvent => eventFor(app, "created", app.createdAt)

const codeOf = (transition: AppTransition): ChangeCode => {
  switch (transition._tag) {
    case "MarkStopped":
    case "Terminate":
      return transition.reason.code
    case "MarkEnded":
      return "removed"
    case "Serve":
    case "RenewLease":
      return "started"
  }
}

const changeOf = (transition: AppTransition): Partial<AppSandbox> => {
  switch (transition._tag) {
    case "RenewLease":
      return { nextCheckAt: transition.leaseExpiresAt }
    case "Serve":
      return { state: "ready", expiresAt: transition.expiresAt, nextCheckAt: transition.expiresAt, reason: null }
    case "MarkStopped":
      return { state: "stopped", nextCheckAt: transition.nextCheckAt, reason: transition.reason.sentence }
    case "Terminate":
      return { state: "ending", nextCheckAt: transition.leaseExpiresAt, reason: transition.reason.sentence }
    case "MarkEnded":
      return { state: "ended", nextCheckAt: null }
  }
}

/** An allowed transition of an app, with its event. */
export type AppliedAppTransition = AppliedTransition<AppSandbox, SandboxEvent>

export const appMachine: StateMachine<AppSandbox, AppTransition, AppState, SandboxEvent> = {
  allowedTransitions,
  stateOf: ({ state }) => state,
  versionOf: ({ version }) => version,
  change: (app, transition, { version }) => new AppSandbox({ ...app, ...changeOf(transition), version }),
  eventFor: (before, after, transition, now) =>
    after.state === before.state ? null : eventFor(after, codeOf(transition), now)
}

/** The app after a transition; none if it is not allowed. */
export const applyAppTransition = (
  app: AppSandbox,
  transition: AppTransition,
  now: DateTime.Utc
): Option.Option<AppliedAppTransition> => AppliedTransition.of(appMachine, app, transition, now)
