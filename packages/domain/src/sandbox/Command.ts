/** A command to run in a sandbox, how it ended, and its output. */
import { Schema } from "effect"
import { encode } from "../utf8.ts"

/** Chosen by the caller and unique within a sandbox, which makes starting a command idempotent. */
export const CommandId = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/)).pipe(
  Schema.brand("CommandId")
)
export type CommandId = typeof CommandId.Type

const withoutNul = Schema.isPattern(/^[^\0]*$/, { message: "must not contain a NUL character" })

/** Maximum bytes of one argument: Linux's `MAX_ARG_STRLEN` without the final NUL. */
const maxArgumentBytes = 128 * 1024 - 1

const notTooLong = Schema.makeFilter(
  (text: string) => text.length * 3 <= maxArgumentBytes || encode(text).length <= maxArgumentBytes,
  {
    message: "must be at most 131071 bytes"
  }
)

/** An argument of a program: any text without NUL, up to the limit of Linux. */
export const Argument = Schema.String.check(withoutNul, notTooLong)

/** The name of an environment variable. */
export const EnvironmentName = Schema.String.check(Schema.isPattern(/^[A-Za-z_][A-Za-z0-9_]*$/))

/** A program and its arguments, passed as a vector and never through a shell. */
export class Command extends Schema.Class<Command>("Command")({
  command: Schema.NonEmptyString.check(withoutNul, notTooLong),
  args: Schema.Array(Argument),
  /** Working directory; null for the sandbox's home directory. */
  cwd: Schema.NullOr(Schema.NonEmptyString.check(withoutNul)),
  /** Added to the sandbox's own environment. */
  env: Schema.Record(EnvironmentName, Argument)
}) {}

/** Why a program could not be started. */
export const StartFailure = Schema.Literals([
  "command_not_found",
  "command_is_directory",
  "command_not_executable",
  "interpreter_not_found",
  "arguments_too_long",
  "cwd_not_found",
  "cwd_not_directory",
  "cwd_not_accessible",
  /** The provider failed to start the program for another reason. */
  "command_not_started"
])
export type StartFailure = typeof StartFailure.Type

/** How a command ended. */
export class CommandEnd extends Schema.Class<CommandEnd>("CommandEnd")({
  /**
   * `exited`: the program ended by itself. `killed`: on request. `timedOut`: at its deadline. `lost`: its sandbox stopped.
   * `unstarted`: the program could not be started.
   */
  by: Schema.Literals(["exited", "killed", "timedOut", "lost", "unstarted"]),
  /** Exit code of the program; 128 + n for signal n. Meaningless if the command is `unstarted`. */
  exitCode: Schema.Int,
  /** Present if the command is `unstarted`. */
  failure: Schema.optionalKey(StartFailure),
  at: Schema.DateTimeUtc
}) {}

/** A command that was started in a sandbox. */
export class StartedCommand extends Schema.Class<StartedCommand>("StartedCommand")({
  id: CommandId,
  startedAt: Schema.DateTimeUtc,
  /** Null while it runs. */
  end: Schema.NullOr(CommandEnd)
}) {}

export const OutputStream = Schema.Literals(["stdout", "stderr"])
export type OutputStream = typeof OutputStream.Type

/** A position beyond every output, in bytes. */
const beyondOutput = 2 ** 40

/** How far each stream of a command's output has been read, in bytes. */
export class OutputPosition extends Schema.Class<OutputPosition>("OutputPosition")({
  stdout: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)),
  stderr: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
}) {
  static readonly start = new OutputPosition({ stdout: 0, stderr: 0 })

  /** Reads one stream from its start and nothing of the other. */
  static readonly only = (stream: OutputStream): OutputPosition =>
    new OutputPosition({ stdout: beyondOutput, stderr: beyondOutput, [stream]: 0 })
}

/** A piece of a command's output. */
export interface Output {
  readonly stream: OutputStream
  readonly bytes: Uint8Array
  /** The position after this piece. */
  readonly next: OutputPosition
}
