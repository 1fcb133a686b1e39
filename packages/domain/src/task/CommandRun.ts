import { Duration, Option, Schema } from "effect"
import { Command, type CommandEnd, CommandId, OutputPosition, type StartFailure } from "../sandbox/Command.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import type { CommandResult } from "../sandbox/Sandboxes.ts"
import type { OutputText } from "../sandbox/OutputText.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import { decode, encode } from "../utf8.ts"
import type { RunChange, RunError, RunId, RunStatus, TaskRun } from "./TaskRun.ts"

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
export interface CommandRequest {
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

/** The status that the end of its command gives a run. A non-zero exit is the command's business: the run is complete. */
const statusOf = (by: CommandEnd["by"]): RunStatus => {
  switch (by) {
    case "exited":
      return "COMPLETED"
    case "timedOut":
      return "TIMED_OUT"
    case "killed":
      return "CANCELED"
    case "lost":
    case "unstarted":
      return "FAILED"
  }
}

/** Characters of a caller's text that an error message repeats. */
const quotedAtMost = 200

const quoted = (text: string) => JSON.stringify(text.length > quotedAtMost ? `${text.slice(0, quotedAtMost)}…` : text)

/** Why the program of a command never ran, as a sentence for the caller. */
const startFailureMessage = (failure: StartFailure, { command, cwd }: Command): string => {
  const program = quoted(command)
  const directory = quoted(cwd ?? "~")
  switch (failure) {
    case "command_not_found":
      return /\s/.test(command)
        ? `The sandbox has no program named ${program}. "command" takes the name of a program alone: put its arguments into "args"`
        : `The sandbox has no program named ${program}`
    case "command_is_directory":
      return `${program} is a directory, not a program`
    case "command_not_executable":
      return `${program} can't be executed: it is not a program, or its permissions do not allow it`
    case "interpreter_not_found":
      return `${program} can't be executed: the sandbox does not have the interpreter that it names`
    case "arguments_too_long":
      return "The arguments and the environment of the command are too long together"
    case "cwd_not_found":
      return `The directory ${directory} does not exist in the sandbox`
    case "cwd_not_directory":
      return `${directory} is not a directory`
    case "cwd_not_accessible":
      return `The directory ${directory} can't be entered: its permissions do not allow it`
    case "command_not_started":
      return "The sandbox's provider failed to start the command"
  }
}

/** Why a sandbox took its command with it. `after` is the sandbox as its provider knows it since then. */
export const sandboxLossError = (after: Option.Option<Sandbox>): RunError => {
  if (Option.isNone(after)) {
    return { code: "sandbox_deleted", message: "The sandbox was deleted while the command ran" }
  }
  const { reason, status } = after.value
  const because = reason === null || status === "running" ? "" : `: ${reason}`
  return { code: "sandbox_stopped", message: `The sandbox stopped while the command ran${because}` }
}

/** Why a run did not complete. `loss` explains a command that its sandbox took with it. */
const errorOf = (end: CommandEnd, command: Command, loss: RunError): RunError | null => {
  switch (end.by) {
    case "exited":
      return null
    case "timedOut":
      return { code: "deadline", message: "The command ran longer than it was allowed to" }
    case "killed":
      return { code: "killed", message: "The command was killed" }
    case "lost":
      return loss
    case "unstarted": {
      const code = end.failure ?? "command_not_started"
      return { code, message: startFailureMessage(code, command) }
    }
  }
}

/** The output of a run whose command has ended; none of one whose program never ran. */
export const outputOf = (result: CommandResult): typeof CommandRunOutput.Type | null =>
  result.end.by === "unstarted"
    ? null
    : {
        stdout: result.stdout,
        stderr: result.stderr,
        exitCode: result.end.exitCode,
        truncated: result.truncated
      }

/** How a run ends whose command has ended. */
export const outcomeOf = (
  command: Command,
  result: CommandResult,
  loss: RunError
): { readonly status: RunStatus; readonly change: RunChange } => {
  const error = errorOf(result.end, command, loss)
  const output = outputOf(result)
  return {
    status: statusOf(result.end.by),
    change: { ...(output === null ? {} : { output }), ...(error === null ? {} : { error }) }
  }
}

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
