/** The input, output and errors of a `run-sandbox-command` run. */
import { Duration, Option, Schema } from "effect"
import { Command, type CommandEnd, CommandId, OutputPosition, type StartFailure } from "../sandbox/Command.ts"
import type { Sandbox } from "../sandbox/Sandbox.ts"
import type { CommandResult } from "../sandbox/Sandboxes.ts"
import type { OutputText } from "../sandbox/OutputText.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import { decode, encode } from "../utf8.ts"
import type { RunChange, RunError, RunId, RunStatus, TaskRun } from "./TaskRun.ts"

/** The longest timeout of a command. */
export const maxTimeout = Duration.hours(24)

export const CommandRunInput = Schema.Struct({
  sandbox: SandboxName,
  command: Command,
  timeoutMs: Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: Duration.toMillis(maxTimeout) }))
})
export type CommandRunInput = typeof CommandRunInput.Type

export const encodeInput = Schema.encodeSync(CommandRunInput)
export const decodeInput = Schema.decodeUnknownSync(CommandRunInput)

/** A request to run a command. */
export interface CommandRequest {
  readonly command: Command
  /** Time after which the command is killed. */
  readonly timeout: Duration.Duration
  /** Makes the request idempotent: the same nonce gives the same run. */
  readonly nonce: Option.Option<string>
}

export const CommandRunOutput = Schema.Struct({
  stdout: Schema.String,
  stderr: Schema.String,
  exitCode: Schema.Int,
  /** Whether the command printed more than this; the run's log has more. */
  truncated: Schema.Boolean
})

/** The default timeout of a command. */
export const defaultTimeout = Duration.minutes(15)

/** The command of a run has the run's id, so a second attempt finds the command that the first one started. */
export const commandOf = (id: RunId): CommandId => CommandId.make(id)

/** The status of a run whose command has ended. A run is complete whatever its command's exit code is. */
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

/** Maximum characters of a caller's text in an error message. */
const maxQuoted = 200

const quoted = (text: string) => JSON.stringify(text.length > maxQuoted ? `${text.slice(0, maxQuoted)}…` : text)

/** Why the program of a command could not be started, as a sentence for the caller. */
const startFailureMessage = (failure: StartFailure, { command, cwd }: Command): string => {
  const program = quoted(command)
  const directory = quoted(cwd ?? "~")
  switch (failure) {
    case "command_not_found":
      return /\s/.test(command)
        ? `The sandbox has no program named ${program}. "command" takes only the name of a program: put its arguments into "args"`
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

/** Why a command was lost with its sandbox. `after` is the sandbox afterwards; none if it no longer exists. */
export const sandboxLossError = (after: Option.Option<Sandbox>): RunError => {
  if (Option.isNone(after)) {
    return { code: "sandbox_deleted", message: "The sandbox was deleted while the command ran" }
  }
  const { reason, status } = after.value
  const because = reason === null || status === "running" ? "" : `: ${reason}`
  return { code: "sandbox_stopped", message: `The sandbox stopped while the command ran${because}` }
}

/** Why a run did not complete; null if it did. `loss` is the error of a command that was lost with its sandbox. */
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

/** The output of a run whose command has ended; null if its program could not be started. */
export const outputOf = (result: CommandResult): typeof CommandRunOutput.Type | null =>
  result.end.by === "unstarted"
    ? null
    : {
        stdout: result.stdout,
        stderr: result.stderr,
        exitCode: result.end.exitCode,
        truncated: result.truncated
      }

/** The final status of a run whose command has ended, with its output and error. */
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

/** The part of a run's stored output after `from`. Used when its sandbox, which had the full output, is removed. */
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
