/** Creates, resumes and stops sandboxes at a provider, and runs commands and transfers files in them. */
import { Context, type Duration, type Effect, type Option, Schema, type Scope, type Stream } from "effect"
import { InternalCause } from "../InternalCause.ts"
import type { NetworkPolicy } from "../network/NetworkPolicy.ts"
import { type Command, CommandId, type Output, type OutputPosition, type StartedCommand } from "./Command.ts"
import { Port, type PortConnection } from "./Port.ts"
import type { Sandbox } from "./Sandbox.ts"
import { type FileMode, type FilePage, type ListingPage, SandboxPath } from "./SandboxFile.ts"
import { SandboxName } from "./SandboxName.ts"
import { type Snapshot, SnapshotId } from "./Snapshot.ts"

/** No sandbox has the name: it never existed, it was removed, or its files are lost. */
export class SandboxGone extends Schema.TaggedError<SandboxGone>()("SandboxGone", { name: SandboxName }) {}

/** The operation needs a running sandbox, and this one is not running. */
export class SandboxNotRunning extends Schema.TaggedError<SandboxNotRunning>()("SandboxNotRunning", {
  name: SandboxName,
  reason: Schema.NullOr(Schema.String)
}) {}

/** The snapshot never existed, has expired, or was removed. */
export class SnapshotGone extends Schema.TaggedError<SnapshotGone>()("SnapshotGone", { id: SnapshotId }) {}

/** No command of the sandbox has the id. */
export class CommandNotFound extends Schema.TaggedError<CommandNotFound>()("CommandNotFound", { id: CommandId }) {}

/** Nothing is at the path, or it has another type than the operation needs. */
export class FileNotFound extends Schema.TaggedError<FileNotFound>()("FileNotFound", { path: SandboxPath }) {}

/** The sandbox's user lacks permission for the path, or the path can't exist. `reason` is for the owner. */
export class FileRefused extends Schema.TaggedError<FileRefused>()("FileRefused", {
  path: SandboxPath,
  reason: Schema.String
}) {}

/** Nothing listens on the port, the port was not declared, or the connection broke. */
export class PortClosed extends Schema.TaggedError<PortClosed>()("PortClosed", { name: SandboxName, port: Port }) {}

/**
 * A failure of a program inside the sandbox, while the provider works. `no_answer`: it did not answer in time. `bad_answer`:
 * its answer was malformed or too large.
 */
export const SandboxFault = Schema.Literals(["no_answer", "bad_answer"])
export type SandboxFault = typeof SandboxFault.Type

/**
 * The provider could not be reached, or refused the request. `retryable`: a retry may succeed. With a `fault`, the sandbox
 * failed and not the provider.
 */
export class SandboxUnavailable extends Schema.TaggedError<SandboxUnavailable>()("SandboxUnavailable", {
  operation: Schema.String,
  retryable: Schema.Boolean,
  fault: Schema.optionalKey(SandboxFault),
  cause: InternalCause
}) {}

/** A sandbox to create. */
export interface SandboxSpec {
  readonly name: SandboxName
  /** The snapshot to boot from; none for the provider's own base image. */
  readonly from: Option.Option<SnapshotId>
  /** Time after which its provider stops it. */
  readonly lifetime: Duration.Duration
  /** The ports that `connect` can reach; none by default. Fixed for the sandbox's whole life. */
  readonly ports?: ReadonlyArray<Port>
  /** Whether it has `npm` and can reach the npm registry, even without other network access. Fixed for its whole life. */
  readonly registry?: boolean
  /** What it may reach; what the provider is set up with if left out. */
  readonly network?: NetworkPolicy
}

export interface WriteOptions {
  /** The permissions that the file has afterwards. */
  readonly mode?: FileMode | undefined
}

/** A command to start. */
export interface CommandSpec extends Pick<Command, "command" | "args" | "cwd" | "env"> {
  readonly id: CommandId
  /** Time after which its provider kills it. */
  readonly timeout: Duration.Duration
}

/** A mechanism that isolates sandboxes from the host and from each other, and whether it is active. */
export interface Protection {
  /** A stable name, such as `system_call_filter`. */
  readonly name: string
  readonly holds: boolean
  /** Why it is not active, or what is active instead. */
  readonly reason?: string
}

/** The abilities of a provider. Each one selects between two clauses of the contract, never between a clause and none. */
export interface ProviderSupport {
  /** The `mode` of a session: `local`, `vercel` or `memory`. */
  readonly name: string
  /** What isolates a sandbox from its host. */
  readonly isolation: "namespaces" | "vm" | "none"
  /** The parts of the isolation, if they depend on the host. */
  readonly protections?: ReadonlyArray<Protection>
  /** Whether taking a snapshot stops the sandbox. */
  readonly snapshotStops: boolean
  /** Bytes of each output stream that are stored. Further output is dropped, and the command continues. */
  readonly outputKept: number
  /** Whether all sandboxes share one loopback interface, so no two of them can listen on the same port. */
  readonly sharesPorts: boolean
}

type Absent = SandboxGone | SandboxUnavailable
type NotRunning = SandboxGone | SandboxNotRunning | SandboxUnavailable
type NoFile = FileNotFound | FileRefused | NotRunning

export class SandboxProvider extends Context.Service<
  SandboxProvider,
  {
    readonly supports: ProviderSupport
    /** None if no sandbox has the name. Never wakes one. */
    readonly find: (name: SandboxName) => Effect.Effect<Option.Option<Sandbox>, SandboxUnavailable>
    /** The sandboxes with these names that exist, in one call to the provider. Never wakes one. */
    readonly findMany: (names: ReadonlyArray<SandboxName>) => Effect.Effect<ReadonlyArray<Sandbox>, SandboxUnavailable>
    /** Creates and starts a sandbox. Idempotent on `name`: a second call returns the first sandbox, whatever its state. */
    readonly create: (spec: SandboxSpec) => Effect.Effect<Sandbox, SnapshotGone | SandboxUnavailable>
    /**
     * Starts a stopped sandbox with its files, for `lifetime` from now. Returns a running one unchanged. Fails with
     * `SandboxGone` if its files are lost; `create` then makes a new sandbox of that name.
     */
    readonly resume: (name: SandboxName, lifetime: Duration.Duration) => Effect.Effect<Sandbox, Absent>
    /**
     * Ends every process and keeps the files. Succeeds if the sandbox is already stopped or gone. With `incarnation`, it
     * does nothing to a sandbox that runs as another incarnation, however late the call arrives.
     */
    readonly stop: (
      name: SandboxName,
      only?: { readonly incarnation: string }
    ) => Effect.Effect<void, SandboxUnavailable>
    /** Ends every process and deletes files and output. Succeeds if the sandbox is already gone. */
    readonly remove: (name: SandboxName) => Effect.Effect<void, SandboxUnavailable>
    /** Postpones the end of a running sandbox's lifetime by `by`. */
    readonly extend: (name: SandboxName, by: Duration.Duration) => Effect.Effect<Sandbox, NotRunning>
    /** Saves the current files. Later writes, by the sandbox or by one made from the snapshot, don't change the snapshot. */
    readonly snapshot: (name: SandboxName) => Effect.Effect<Snapshot, Absent>
    /** The bootable snapshots of the sandbox, even if it no longer exists. */
    readonly snapshots: (source: SandboxName) => Effect.Effect<ReadonlyArray<Snapshot>, SandboxUnavailable>
    /** Deletes a snapshot. Sandboxes made from it are not affected. Succeeds if it is already gone. */
    readonly removeSnapshot: (id: SnapshotId) => Effect.Effect<void, SandboxUnavailable>

    /**
     * Starts a command without waiting for its end. Idempotent on `id`: a second call starts nothing. A command whose
     * program can't be started ends as `unstarted` with a `failure`. The output has only what the program itself prints.
     */
    readonly start: (name: SandboxName, spec: CommandSpec) => Effect.Effect<StartedCommand, NotRunning>
    /**
     * The current state of a command. It is `lost` if its sandbox stopped while it ran, or before its program started. It
     * ends at its deadline even if no server is running then.
     */
    readonly command: (name: SandboxName, id: CommandId) => Effect.Effect<StartedCommand, CommandNotFound | Absent>
    /** Completes when the command has ended, or at once if it already has. Does not wait for children it left behind. */
    readonly wait: (name: SandboxName, id: CommandId) => Effect.Effect<StartedCommand, CommandNotFound | Absent>
    /**
     * The output from `from` on, as it is written. Ends when the command has ended and all its output was read. Emits
     * nothing of a stream whose position is beyond its end.
     */
    readonly output: (
      name: SandboxName,
      id: CommandId,
      from: OutputPosition
    ) => Stream.Stream<Output, CommandNotFound | Absent>
    /** Ends the command and every process it started. Succeeds if it has already ended. */
    readonly kill: (name: SandboxName, id: CommandId) => Effect.Effect<void, CommandNotFound | Absent>
    /**
     * Deletes an ended command and its output, which otherwise use space as long as the sandbox exists. Does nothing if
     * the command still runs, if the sandbox is not running, or if there is no such command or sandbox.
     */
    readonly forget: (name: SandboxName, id: CommandId) => Effect.Effect<void, SandboxUnavailable>

    /**
     * The bytes of a file. Never reads outside the sandbox, even through links. Fails with the fault `no_answer` if the
     * sandbox is silent for too long before the first byte, or between two bytes that the reader waits for.
     */
    readonly readFile: (name: SandboxName, path: SandboxPath) => Stream.Stream<Uint8Array, NoFile>
    /**
     * Writes a file atomically, creates its parent directories, and returns the number of bytes written. A name may have
     * 255 bytes. Follows a link as `readFile` does: it writes the link's target, and refuses a link without a target file.
     * Without a mode an existing file keeps its own, and a new one is readable by all. Fails with the fault `no_answer` if
     * the sandbox accepts no bytes for too long; slow content does not fail.
     */
    readonly writeFile: <E>(
      name: SandboxName,
      path: SandboxPath,
      content: Stream.Stream<Uint8Array, E>,
      options?: WriteOptions
    ) => Effect.Effect<number, E | NoFile>
    /**
     * A page of the entries below a directory, ordered by path. Never follows a link. Following `next` until it is null
     * gives every entry exactly once that existed the whole time. A page with long names may have fewer entries than its
     * limit. The sandbox's answer is bounded in time, bytes and entries while it is read: silence is the fault
     * `no_answer`; a malformed or too long answer is the fault `bad_answer`.
     */
    readonly listFiles: (name: SandboxName, path: SandboxPath, page: ListingPage) => Effect.Effect<FilePage, NoFile>

    /**
     * Connects to a declared port on the loopback interface of a running sandbox, until the scope closes. Never wakes a
     * sandbox, and never reaches another sandbox or the host.
     */
    readonly connect: (
      name: SandboxName,
      port: Port
    ) => Effect.Effect<PortConnection, PortClosed | NotRunning, Scope.Scope>
  }
>()("domain/sandbox/SandboxProvider") {}
