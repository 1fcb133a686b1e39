/** What keeps a sandbox from its host, or, knowingly, does not. */
import type { Protection, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { type Duration, type Effect, Schema } from "effect"
import type { ProcessMark } from "../process/Host.ts"
import type { SandboxLayout } from "../sandbox/Layout.ts"
import type { Spec } from "../sandbox/Machines.ts"

/** The local provider can't work here; the message says why and what can be done. */
export class LocalUnavailable extends Schema.TaggedError<LocalUnavailable>()("LocalUnavailable", {
  message: Schema.String
}) {}

/** A sandbox did not come up in the time it had. It says nothing about whether it would have. */
export class BootTimedOut extends Error {
  override readonly name = "BootTimedOut"
}

export interface Isolation {
  readonly kind: "namespaces" | "none"
  /** What the isolation consists of on this host. */
  readonly protections: ReadonlyArray<Protection>
  /** The form of isolation; a sandbox of another form, which an older server brought up, counts as ended. */
  readonly form?: number
  /** The user of the host that a sandbox runs as; false if that is the server's own user. */
  readonly userOf: (spec: Pick<Spec, "user">) => number | false
  /** Chooses a user for a new sandbox and for the sandboxes made from its snapshots; empty if all share one user. */
  readonly newUser: () => Pick<Spec, "user">
  /** Makes the directories of a sandbox. */
  readonly prepare: (
    sandbox: SandboxLayout,
    spec: Pick<Spec, "chain" | "user">
  ) => Effect.Effect<void, SandboxUnavailable>
  /**
   * Starts what the sandbox's processes live in, if `start` is still the one that counts by then; nothing of an earlier
   * start may be alive. Gives the process with which everything in the sandbox ends. Fails with `BootTimedOut` as its cause
   * if that takes longer than `within`, a minute by default.
   */
  readonly boot: (
    sandbox: SandboxLayout,
    spec: Pick<Spec, "name" | "chain" | "registry" | "status" | "user">,
    start: string,
    within?: Duration.Duration
  ) => Effect.Effect<ProcessMark, SandboxUnavailable>
  /** What goes before a program to run it inside, as the sandbox's user. */
  readonly enter: (sandbox: SandboxLayout, init: ProcessMark) => ReadonlyArray<string>
  /** Whether sandboxes have the host's network. */
  readonly sharesNetwork: boolean
  /** What goes before a program of the host to run it in a sandbox's own network, and nothing else of the sandbox. */
  readonly enterNetwork: (init: ProcessMark) => ReadonlyArray<string>
  /** The directories of npm's programs, placed at that path of the host, as programs inside look for them. */
  readonly npmPath: (placed: string) => string
  /** Ends what may have outlived the sandbox's first process. */
  readonly sweep: (name: string) => Effect.Effect<void, SandboxUnavailable>
  /** The home directory as programs inside name it. */
  readonly home: (sandbox: SandboxLayout) => string
  /** How many processes live in it. */
  readonly processes: (init: ProcessMark) => number
}

/** Processes a sandbox may have. It is ended if it has more for a while. */
export const processLimit = 512

/** Processes a sandbox can have: the kernel refuses it more, so that the host never feels those it may not have. */
export const processCap = 2 * processLimit
