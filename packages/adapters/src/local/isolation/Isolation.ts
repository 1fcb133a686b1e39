/** The interface of a form of isolation: how sandboxes are started, entered and ended. */
import type { Protection, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { type Duration, type Effect, Schema } from "effect"
import type { ProcessIdentity } from "../process/processes.ts"
import type { SandboxLayout } from "../storage/Layout.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"

/** The local provider can't work on this host. The message says why and what to do. */
export class LocalUnavailable extends Schema.TaggedError<LocalUnavailable>()("LocalUnavailable", {
  message: Schema.String
}) {}

/** A sandbox did not start in time. It might have with more time. */
export class BootTimedOut extends Error {
  override readonly name = "BootTimedOut"
}

export interface Isolation {
  readonly kind: "namespaces" | "none"
  /** The protections that sandboxes have on this host. */
  readonly protections: ReadonlyArray<Protection>
  /** Changes with the form of isolation. A sandbox that an older server started in another form counts as stopped. */
  readonly version?: number
  /** The host's user that a sandbox runs as; false for the server's own user. */
  readonly userOf: (record: Pick<SandboxRecord, "user">) => number | false
  /** Chooses the user of a new sandbox and of the sandboxes made from its snapshots; empty if all share one user. */
  readonly allocateUser: () => Pick<SandboxRecord, "user">
  /** Creates the directories of a sandbox. */
  readonly prepare: (
    sandbox: SandboxLayout,
    record: Pick<SandboxRecord, "chain" | "user">
  ) => Effect.Effect<void, SandboxUnavailable>
  /**
   * Starts the sandbox and returns its first process; everything in the sandbox ends with it. Does nothing if the sandbox's
   * start token is no longer `token`. No process of an earlier start may be alive. Fails with the cause `BootTimedOut` after
   * `within`, which is a minute by default.
   */
  readonly boot: (
    sandbox: SandboxLayout,
    record: Pick<SandboxRecord, "name" | "chain" | "registry" | "status" | "user">,
    token: string,
    within?: Duration.Duration
  ) => Effect.Effect<ProcessIdentity, SandboxUnavailable>
  /** The command prefix that runs a program in the sandbox as the sandbox's user. */
  readonly enterCommand: (sandbox: SandboxLayout, init: ProcessIdentity) => ReadonlyArray<string>
  /** Whether sandboxes use the host's network. */
  readonly sharesNetwork: boolean
  /** The command prefix that runs a program of the host in the sandbox's network, and outside its other namespaces. */
  readonly enterNetworkCommand: (init: ProcessIdentity) => ReadonlyArray<string>
  /** The entries of `PATH` that lead programs inside to npm, which is installed at that path of the host. */
  readonly npmSearchPath: (installed: string) => string
  /** Kills processes that may have outlived the sandbox's first process. */
  readonly killRemaining: (name: string) => Effect.Effect<void, SandboxUnavailable>
  /** The path of the home directory inside. */
  readonly homeDirectory: (sandbox: SandboxLayout) => string
  /** The number of processes in the sandbox. */
  readonly countProcesses: (init: ProcessIdentity) => number
}

/** A sandbox whose first process is alive. */
export interface RunningSandbox {
  readonly record: SandboxRecord
  readonly files: SandboxLayout
  readonly init: ProcessIdentity
}

/** The processes that a sandbox may have. The watchdog ends one that has more for several seconds. */
export const processLimit = 512

/** The processes that the kernel lets a sandbox have. The margin keeps the host responsive until the watchdog acts. */
export const processHardLimit = 2 * processLimit
