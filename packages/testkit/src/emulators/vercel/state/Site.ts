/** What all parts of the emulator share: what is kept, and the provider below. */
import type { SandboxProvider, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, type FiberMap } from "effect"
import { notFound, Refused, refusalOf } from "../wire/Answers.ts"
import type { Bridges } from "./Bridges.ts"
import type { KeptSandbox, KeptSession, KeptSnapshot, Owner } from "./Kept.ts"

/** What a plan allows. Times are milliseconds. */
export interface Plan {
  /** How long a session may last; 24 hours on Pro, 45 minutes on Hobby. */
  readonly maxTimeout: number
  readonly maxVcpus: number
  readonly maxPorts: number
  /** Sandboxes that may run at once. */
  readonly maxRunning: number
}

/** The emulator's own world. */
export interface Site {
  readonly provider: typeof SandboxProvider.Service
  /** The directory in which commands run and files are, unless told otherwise. */
  readonly home: string
  readonly plan: Plan
  /** Whether sandboxes have npm and reach its registry. */
  readonly registry: boolean
  /** What happens to a sandbox without a snapshot that is to be resumed. */
  readonly withoutSnapshot: "refused" | "clean"
  /** What is said to who stops a session that has stopped. */
  readonly stopOfStopped: "gone" | "ok"
  /** Whether lines of a stream are ASCII alone. */
  readonly ascii: boolean
  readonly sandboxes: Map<string, KeptSandbox>
  readonly sessions: Map<string, KeptSession>
  readonly snapshots: Map<string, KeptSnapshot>
  /** Those that end sessions whose time is up, by the sandbox. */
  readonly timers: FiberMap.FiberMap<KeptSandbox>
  readonly bridges: Bridges
}

/** Whoever asks: a team, and in what is said of a project, that. */
export interface Asked {
  readonly method: string
  readonly query: URLSearchParams
  readonly headers: Record<string, string | ReadonlyArray<string> | undefined>
  readonly body: Buffer
  readonly teamId: string
}

/** What tells a sandbox from all others. */
export const keyOf = ({ projectId, teamId }: Owner, name: string): string => JSON.stringify([teamId, projectId, name])

/** The sandbox of that name. */
export const sandboxOf = (site: Site, owner: Owner, name: string): Effect.Effect<KeptSandbox, Refused> => {
  const found = site.sandboxes.get(keyOf(owner, name))
  return found === undefined ? Effect.fail(notFound("Sandbox")) : Effect.succeed(found)
}

/** The session of that id, if it is the team's. */
export const sessionOf = (site: Site, { teamId }: Asked, id: string): Effect.Effect<KeptSession, Refused> => {
  const found = site.sessions.get(id)
  return found?.sandbox.owner.teamId === teamId ? Effect.succeed(found) : Effect.fail(notFound("Session"))
}

/** Refuses what a session that does not run can't do. */
export const mustRun = ({ status }: KeptSession): Effect.Effect<void, Refused> => {
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

/** A provider that can't be asked is Vercel in trouble. */
export const unavailable = (error: SandboxUnavailable): Refused =>
  new Refused({
    status: error.retryable ? 503 : 500,
    code: "internal_server_error",
    message: `Something went wrong (${error.operation})`
  })
