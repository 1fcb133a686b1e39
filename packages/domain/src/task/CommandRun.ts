import { Duration, type Option, Schema } from "effect"
import { Command, type CommandEnd, CommandId, OutputPosition } from "../sandbox/Command.ts"
import type { CommandResult } from "../sandbox/Sandboxes.ts"
import type { OutputText } from "../sandbox/OutputText.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import { decode, encode } from "../utf8.ts"
import type { RunId, RunStatus, TaskRun } from "./TaskRun.ts"

/** The longest time a command may be given. */
export const longestTimeout = Duration.hours(24)

/** What a `run-sandbox-command` is given. */
export const CommandRunInput = Schema.Struct({
  sandbox: SandboxName,
  command: Command,
  timeoutMs: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Duration.toMillis(longestTimeout) }))
})
export type CommandRunInput = typeof CommandRunInput.Type

export const encodeInput = Schema.encodeSync(CommandRunInput)
export const decodeInput = Schema.decodeUnknownSync(CommandRunInput)

/** A command that somebody wants to be run. */
export interface WantedCommand {
  readonly command: Command
  /** When it is killed. */
  readonly timeout: Duration.Duration
  /** Makes asking repeatable: the same nonce gives the same run. */
  readonly nonce: Option.Option<string>
}

/** What a `run-sandbox-command` leaves behind. */
export const CommandRunOutput = Schema.Struct({
  stdout: Schema.String,
  stderr: Schema.String,
  exitCode: Schema.Int,
  /** Whether the command printed more than is kept here; its log has more. */
  truncated: Schema.Boolean
})

/** The time a command may run if nobody says otherwise. */
export const defaultTimeout = Duration.minutes(15)

/** A run's command bears the run's id in its sandbox, so that a second attempt finds the first one's command. */
export const commandOf = (id: RunId): CommandId => CommandId.make(id)

/** What the end of its command makes of a run. A non-zero exit is the command's business: the run is complete. */
export const statusOf = (by: CommandEnd["by"]): RunStatus => {
  switch (by) {
    case "exited":
      return "COMPLETED"
    case "timedOut":
      return "TIMED_OUT"
    case "killed":
      return "CANCELED"
    case "lost":
      return "FAILED"
  }
}

/** Why a run did not complete, in words for its owner. */
export const errorOf = (by: CommandEnd["by"]): string | null => {
  switch (by) {
    case "exited":
      return null
    case "timedOut":
      return "The command ran longer than it was allowed to"
    case "killed":
      return "The command was killed"
    case "lost":
      return "The sandbox stopped while the command ran"
  }
}

/** The output of a run whose command has ended. */
export const outputOf = (result: CommandResult): typeof CommandRunOutput.Type => ({
  stdout: result.stdout,
  stderr: result.stderr,
  exitCode: result.end.exitCode,
  truncated: result.truncated
})

/** What a reader at `from` has not seen of a run's stored output: all that is left once its sandbox is removed. */
export const storedOutput = (run: TaskRun, from: OutputPosition): ReadonlyArray<OutputText> => {
  if (!Schema.is(CommandRunOutput)(run.output)) return []
  const stdout = encode(run.output.stdout)
  const stderr = encode(run.output.stderr)
  const end = new OutputPosition({
    stdout: Math.max(from.stdout, stdout.length),
    stderr: Math.max(from.stderr, stderr.length)
  })
  const pieces: ReadonlyArray<OutputText> = [
    {
      stream: "stdout",
      text: decode(stdout.subarray(from.stdout)),
      next: new OutputPosition({ ...from, stdout: end.stdout })
    },
    { stream: "stderr", text: decode(stderr.subarray(from.stderr)), next: end }
  ]
  return pieces.filter((piece) => piece.text !== "")
}
