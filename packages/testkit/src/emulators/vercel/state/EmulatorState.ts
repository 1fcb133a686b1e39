/** The state that all parts of the emulator share, and lookups in it. */
import type { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, type FiberMap } from "effect"
import { notFound, ApiError, refusalOf } from "../wire/responses.ts"
import type { Bridges } from "./Bridges.ts"
import type { SandboxModel, SessionModel, SnapshotModel, Owner } from "./models.ts"

/** The limits of a plan, in milliseconds and counts. */
export interface Plan {
  /** The longest session: 24 hours on Pro, 45 minutes on Hobby. */
  readonly maxTimeout: number
  readonly maxVcpus: number
  readonly maxPorts: number
  /** The most sandboxes that run at once. */
  readonly maxRunning: number
}

/** The options and the stored data of an emulator. */
export interface EmulatorState {
  readonly provider: typeof SandboxProvider.Service
  /** The default directory of commands and files. */
  readonly home: string
  readonly plan: Plan
  /** Whether sandboxes have npm and access to its registry. */
  readonly registry: boolean
  /** Whether resuming a sandbox without a snapshot fails, or starts without files. */
  readonly withoutSnapshot: "refused" | "clean"
  /** The response to stopping a stopped session: 410, or its state. */
  readonly stopOfStopped: "gone" | "ok"
  /** Whether lines of a stream are pure ASCII. */
  readonly ascii: boolean
  readonly sandboxes: Map<string, SandboxModel>
  readonly sessions: Map<string, SessionModel>
  readonly snapshots: Map<string, SnapshotModel>
  /** The timers that end sessions at their timeout, by sandbox. */
  readonly timers: FiberMap.FiberMap<SandboxModel>
  readonly bridges: Bridges
}

/** A request of a team. */
export interface EmulatorRequest {
  readonly method: string
  readonly query: URLSearchParams
  readonly headers: Record<string, string | ReadonlyArray<string> | undefined>
  readonly body: Buffer
  readonly teamId: string
}

/** The unique key of a sandbox. */
export const keyOf = ({ projectId, teamId }: Owner, name: string): string => JSON.stringify([teamId, projectId, name])

/** The sandbox with this name. */
export const sandboxOf = (state: EmulatorState, owner: Owner, name: string): Effect.Effect<SandboxModel, ApiError> => {
  const found = state.sandboxes.get(keyOf(owner, name))
  return found === undefined ? Effect.fail(notFound("Sandbox")) : Effect.succeed(found)
}

/** The session with this id, if it is the team's. */
export const sessionOf = (
  state: EmulatorState,
  { teamId }: EmulatorRequest,
  id: string
): Effect.Effect<SessionModel, ApiError> => {
  const found = state.sessions.get(id)
  return found?.sandbox.owner.teamId === teamId ? Effect.succeed(found) : Effect.fail(notFound("Session"))
}

/** Fails unless the session runs. */
export const requireRunning = ({ status }: SessionModel): Effect.Effect<void, ApiError> => {
  switch (status) {
    case "running":
      return Effect.void
    case "stopping":
    case "snapshotting":
      return Effect.fail(refusalOf(status))
    default:
      return Effect.fail(refusalOf("stopped"))
  }
}

/** The error for an unavailable provider, which looks like an outage of Vercel. */
export const unavailable = (error: SandboxUnavailable): ApiError =>
  new ApiError({
    status: error.retryable ? 503 : 500,
    code: "internal_server_error",
    message: `Something went wrong (${error.operation})`
  })
