/** What keeps a sandbox from its host, or, knowingly, does not. */
import type { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { type Duration, type Effect, Schema } from "effect"
import type { ProcessMark } from "./Host.ts"
import type { SandboxLayout } from "./Layout.ts"
import type { Spec } from "./Machines.ts"

/** The local provider can't work here; the message says why and what can be done. */
export class LocalUnavailable extends Schema.TaggedError<LocalUnavailable>()("LocalUnavailable", {
  message: Schema.String
}) {}

/** A sandbox did not come up in the time it had. It says nothing about whether it would have. */
export class BootTimedOut extends Error {
  override readonly name = "BootTimedOut"
}

/** A sandbox that was brought up. */
export interface Booted {
  /** Ends everything in the sandbox when it ends. */
  readonly init: ProcessMark
  /** The process, as the sandbox counts, that holds the user namespace of its commands: the first one. */
  readonly keeper: number
}

export interface Isolation {
  readonly kind: "namespaces" | "none"
  /** Whether what it starts runs under the sandboxes' own uid. */
  readonly drop: boolean
  /** Makes the directories of a new sandbox over a chain of layers, the newest first. */
  readonly prepare: (sandbox: SandboxLayout, chain: ReadonlyArray<string>) => Effect.Effect<void, SandboxUnavailable>
  /**
   * Starts what the sandbox's processes live in, if `start` is still the one that counts by then; nothing of an earlier
   * start may be alive. Fails with `BootTimedOut` as its cause if that takes longer than `within`, a minute by default.
   */
  readonly boot: (
    sandbox: SandboxLayout,
    spec: Pick<Spec, "name" | "chain" | "registry">,
    start: string,
    within?: Duration.Duration
  ) => Effect.Effect<Booted, SandboxUnavailable>
  /** What goes before a program to run it inside, as the sandbox's user, with its limits. */
  readonly enter: (sandbox: SandboxLayout, booted: Booted) => ReadonlyArray<string>
  /** What goes before a program to run it inside with power over all of the sandbox's processes. */
  readonly enterAsRoot: (sandbox: SandboxLayout, booted: Booted) => ReadonlyArray<string>
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
  readonly processes: (booted: Booted) => number
}

/** Processes a sandbox may have. It is ended if it has more for a while. */
export const processLimit = 512

/** Processes a sandbox can have: the kernel refuses it more, so that the host never feels those it may not have. */
export const processCap = 2 * processLimit
