import { Schema } from "effect"
import { encode } from "../utf8.ts"

/** Ours to choose, unique within a sandbox; makes starting a command repeatable. */
export const CommandId = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/)).pipe(
  Schema.brand("CommandId")
)
export type CommandId = typeof CommandId.Type

const withoutNul = Schema.isPattern(/^[^\0]*$/, { message: "must not contain a NUL character" })

/** Bytes of one argument: what Linux passes on, with the NUL at its end (`MAX_ARG_STRLEN`). */
const longestArgument = 128 * 1024 - 1

const notTooLong = Schema.makeFilter(
  (text: string) => text.length * 3 <= longestArgument || encode(text).length <= longestArgument,
  {
    message: "must be at most 131071 bytes"
  }
)

/** An argument of a program: any text without NUL that Linux can pass on. */
export const Argument = Schema.String.check(withoutNul, notTooLong)

/** The name of an environment variable. */
export const EnvironmentName = Schema.String.check(Schema.isPattern(/^[A-Za-z_][A-Za-z0-9_]*$/))

/** A program and its arguments, run as a vector and never through a shell. */
export class Command extends Schema.Class<Command>("Command")({
  command: Schema.NonEmptyString.check(withoutNul, notTooLong),
  args: Schema.Array(Argument),
  /** Where it runs; null for the sandbox's home directory. */
  cwd: Schema.NullOr(Schema.NonEmptyString.check(withoutNul)),
  /** Added to the sandbox's own environment. */
  env: Schema.Record(EnvironmentName, Argument)
}) {}

/** Why a program never ran. */
export const StartFailure = Schema.Literals([
  "command_not_found",
  "command_is_directory",
  "command_not_executable",
  "interpreter_not_found",
  "arguments_too_long",
  "cwd_not_found",
  "cwd_not_directory",
  "cwd_not_accessible",
  /** The provider failed to start it, for none of the reasons above. */
  "command_not_started"
])
export type StartFailure = typeof StartFailure.Type

/** How a command ended. */
export class CommandEnd extends Schema.Class<CommandEnd>("CommandEnd")({
  /**
   * `exited` by itself, `killed` when asked to, `timedOut` at its deadline, `lost` with its sandbox, `unstarted` where
   * its program never ran.
   */
  by: Schema.Literals(["exited", "killed", "timedOut", "lost", "unstarted"]),
  /** What the program returned; 128 + n for signal n. Says nothing of a command that is `unstarted`. */
  exitCode: Schema.Int,
  /** Why the program never ran; only of a command that is `unstarted`. */
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

/** A position no output reaches, in bytes. */
const farEnd = 2 ** 40

/** How far each stream of a command's output has been read, in bytes. */
export class OutputPosition extends Schema.Class<OutputPosition>("OutputPosition")({
  stdout: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0)),
  stderr: Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
}) {
  static readonly start = new OutputPosition({ stdout: 0, stderr: 0 })

  /** The beginning of one stream and the far end of the other: a stream gives nothing beyond its end. */
  static readonly only = (stream: OutputStream): OutputPosition =>
    new OutputPosition({ stdout: farEnd, stderr: farEnd, [stream]: 0 })
}

/** A piece of a command's output. */
export interface Output {
  readonly stream: OutputStream
  readonly bytes: Uint8Array
  /** Where to go on reading after this piece. */
  readonly next: OutputPosition
}
