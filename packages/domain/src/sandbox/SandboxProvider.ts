/** Sandboxes the domain rents and does not own. */
import { Context, type Duration, type Effect, type Option, Schema, type Scope, type Stream } from "effect"
import { InternalCause } from "../InternalCause.ts"
import { type Command, CommandId, type Output, type OutputPosition, type StartedCommand } from "./Command.ts"
import { Port, type PortConnection } from "./Port.ts"
import type { Sandbox } from "./Sandbox.ts"
import { type FileMode, type FilePage, type ListingPage, SandboxPath } from "./SandboxFile.ts"
import { SandboxName } from "./SandboxName.ts"
import { type Snapshot, SnapshotId } from "./Snapshot.ts"

/** No sandbox bears the name: it never existed, it was removed, or its files are lost. */
export class SandboxGone extends Schema.TaggedError<SandboxGone>()("SandboxGone", { name: SandboxName }) {}

/** The sandbox exists and does not run, so it can't do this. */
export class SandboxNotRunning extends Schema.TaggedError<SandboxNotRunning>()("SandboxNotRunning", {
  name: SandboxName,
  reason: Schema.NullOr(Schema.String)
}) {}

/** The snapshot never existed, has expired or was removed. */
export class SnapshotGone extends Schema.TaggedError<SnapshotGone>()("SnapshotGone", { id: SnapshotId }) {}

/** No command of the sandbox bears the id. */
export class CommandNotFound extends Schema.TaggedError<CommandNotFound>()("CommandNotFound", { id: CommandId }) {}

/** Nothing is at the path, or it is not of the kind that was asked for. */
export class FileNotFound extends Schema.TaggedError<FileNotFound>()("FileNotFound", { path: SandboxPath }) {}

/** The sandbox's user may not do this with the path, or nothing can stand there; `reason` says so to its owner. */
export class FileRefused extends Schema.TaggedError<FileRefused>()("FileRefused", {
  path: SandboxPath,
  reason: Schema.String
}) {}

/** Nothing answers on that port of the sandbox, it was not declared, or the connection to it broke. */
export class PortClosed extends Schema.TaggedError<PortClosed>()("PortClosed", { name: SandboxName, port: Port }) {}

/**
 * What a program inside the sandbox did wrong while the provider worked: it gave no answer in time, or one that can't be
 * used because it is malformed or too large.
 */
export const SandboxFault = Schema.Literals(["no_answer", "bad_answer"])
export type SandboxFault = typeof SandboxFault.Type

/**
 * The provider could not be asked, or refused; `retryable` tells whether asking again may help. With a `fault` the
 * provider worked, and the sandbox did not.
 */
export class SandboxUnavailable extends Schema.TaggedError<SandboxUnavailable>()("SandboxUnavailable", {
  operation: Schema.String,
  retryable: Schema.Boolean,
  fault: Schema.optionalKey(SandboxFault),
  cause: InternalCause
}) {}

/** A sandbox to be. */
export interface SandboxSpec {
  readonly name: SandboxName
  /** The snapshot it boots from; none for the provider's own base image. */
  readonly from: Option.Option<SnapshotId>
  /** How long it runs before its provider stops it. */
  readonly lifetime: Duration.Duration
  /** The ports that can be connected to from outside; none if left out. Kept for its life. */
  readonly ports?: ReadonlyArray<Port>
  /** Whether it has `npm` and reaches its registry, also where it reaches nothing else; kept for its life. */
  readonly registry?: boolean
}

/** How a file is written. */
export interface WriteOptions {
  /** The permissions that it has afterwards. */
  readonly mode?: FileMode | undefined
}

/** A command to be run. */
export interface CommandSpec extends Pick<Command, "command" | "args" | "cwd" | "env"> {
  readonly id: CommandId
  /** How long it may run before its provider kills it. */
  readonly timeout: Duration.Duration
}

/** Something that keeps sandboxes apart from their host and from each other, and whether it does so here. */
export interface Protection {
  /** A stable name, such as `system_call_filter`. */
  readonly name: string
  readonly holds: boolean
  /** Why it does not hold, or what holds in its place. */
  readonly reason?: string
}

/** What a provider can do; it chooses between two promises of the contract, never between a promise and none. */
export interface ProviderSupport {
  /** What the `mode` of a session says: `local`, `vercel`, `memory`. */
  readonly name: string
  /** What keeps a sandbox from its host: `namespaces`, `vm`, or `none`. */
  readonly isolation: "namespaces" | "vm" | "none"
  /** What the isolation consists of, where it depends on the host. */
  readonly protections?: ReadonlyArray<Protection>
  /** Whether taking a snapshot stops the sandbox. */
  readonly snapshotStops: boolean
  /** Bytes of each output stream that are kept; what a command writes beyond is dropped, and the command goes on. */
  readonly outputKept: number
  /** Whether all sandboxes listen on one loopback, so that no two of them can have the same port. */
  readonly sharesPorts: boolean
}

type Absent = SandboxGone | SandboxUnavailable
type Idle = SandboxGone | SandboxNotRunning | SandboxUnavailable
type NoFile = FileNotFound | FileRefused | Idle

export class SandboxProvider extends Context.Service<
  SandboxProvider,
  {
    readonly supports: ProviderSupport
    /** `none` when no sandbox bears the name. Never wakes one. */
    readonly find: (name: SandboxName) => Effect.Effect<Option.Option<Sandbox>, SandboxUnavailable>
    /** Those of the names that exist, in one call to the provider. Never wakes one. */
    readonly findMany: (names: ReadonlyArray<SandboxName>) => Effect.Effect<ReadonlyArray<Sandbox>, SandboxUnavailable>
    /** A running sandbox. Idempotent on `name`: a second call gives the first sandbox back, whatever its state. */
    readonly create: (spec: SandboxSpec) => Effect.Effect<Sandbox, SnapshotGone | SandboxUnavailable>
    /**
     * Runs a stopped sandbox again with its files, for `lifetime` from now; a running one is given back unchanged.
     * `SandboxGone` also where its files are lost: `create` makes it anew then.
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
    /** Ends every process and forgets files and output. Succeeds when the sandbox is already gone. */
    readonly remove: (name: SandboxName) => Effect.Effect<void, SandboxUnavailable>
    /** Moves the moment at which a running sandbox stops by itself, further away by `by`. */
    readonly extend: (name: SandboxName, by: Duration.Duration) => Effect.Effect<Sandbox, Idle>
    /** Keeps the files as they are now. What the sandbox, or another made from the snapshot, writes later is not in it. */
    readonly snapshot: (name: SandboxName) => Effect.Effect<Snapshot, Absent>
    /** The snapshots of the sandbox that can be booted from, whether it exists itself or not. */
    readonly snapshots: (source: SandboxName) => Effect.Effect<ReadonlyArray<Snapshot>, SandboxUnavailable>
    /** New sandboxes can't boot from it any more; those made from it live on. Succeeds when it is already gone. */
    readonly removeSnapshot: (id: SnapshotId) => Effect.Effect<void, SandboxUnavailable>

    /**
     * Starts a command and does not wait for it. Idempotent on `id`: a second call starts nothing. A command whose
     * program can't be run ends as `unstarted` with its `failure`. Only what the program itself prints is output.
     */
    readonly start: (name: SandboxName, spec: CommandSpec) => Effect.Effect<StartedCommand, Idle>
    /**
     * The command as it is now; `lost` if its sandbox stopped under it, or before its program ran. It ends at its
     * deadline also while no server is there to end it.
     */
    readonly command: (name: SandboxName, id: CommandId) => Effect.Effect<StartedCommand, CommandNotFound | Absent>
    /** Completes once the command has ended, and at once if it has already. Children it left behind don't count. */
    readonly wait: (name: SandboxName, id: CommandId) => Effect.Effect<StartedCommand, CommandNotFound | Absent>
    /**
     * The output from `from` on, as it appears; ends when the command has ended and all it wrote was read. A stream
     * whose position lies beyond its end gives nothing.
     */
    readonly output: (
      name: SandboxName,
      id: CommandId,
      from: OutputPosition
    ) => Stream.Stream<Output, CommandNotFound | Absent>
    /** Ends the command and every process it started. Succeeds when it has already ended. */
    readonly kill: (name: SandboxName, id: CommandId) => Effect.Effect<void, CommandNotFound | Absent>
    /**
     * Forgets a command that has ended, with its output: it takes room for as long as its sandbox is there. Does nothing
     * where it still runs, where the sandbox does not, and where there is none.
     */
    readonly forget: (name: SandboxName, id: CommandId) => Effect.Effect<void, SandboxUnavailable>

    /**
     * The bytes of a file. Never reads outside the sandbox, whatever links are in the way. A sandbox that is silent before
     * the first byte, or between two bytes while the reader waits for them, fails the read with the fault `no_answer`.
     */
    readonly readFile: (name: SandboxName, path: SandboxPath) => Stream.Stream<Uint8Array, NoFile>
    /**
     * Writes a file whole or not at all, making the directories above it; gives the bytes written. A name may have 255
     * bytes. A link is followed, as it is by `readFile`: the file that it leads to is written, and a link that leads to no
     * file is refused. Without a mode an existing file keeps its own, and a new one may be read by all. A sandbox that takes no
     * bytes for too long fails the write with the fault `no_answer`; content that comes slowly does not.
     */
    readonly writeFile: <E>(
      name: SandboxName,
      path: SandboxPath,
      content: Stream.Stream<Uint8Array, E>,
      options?: WriteOptions
    ) => Effect.Effect<number, E | NoFile>
    /**
     * A page of the entries below a directory, in order of their paths. Never follows a link. Going on from `next` until
     * it is null gives every entry once that was there all the while. A page ends early where the names in it are long.
     * The answer of the sandbox is bounded in time, bytes and entries while it is read: silence is the fault
     * `no_answer`; an answer that is no listing, or too long to be one, is the fault `bad_answer`.
     */
    readonly listFiles: (name: SandboxName, path: SandboxPath, page: ListingPage) => Effect.Effect<FilePage, NoFile>

    /**
     * A connection to what listens on a declared port of a running sandbox, at its loopback; it is closed with its scope.
     * Never wakes one, and never reaches another sandbox or the host.
     */
    readonly connect: (name: SandboxName, port: Port) => Effect.Effect<PortConnection, PortClosed | Idle, Scope.Scope>
  }
>()("domain/sandbox/SandboxProvider") {}
