/** The request and the responses of an operation that runs a command in a sandbox. */
import { Argument, Command, EnvironmentName } from "@castellan/domain/sandbox/Command.ts"
import { defaultTimeout, maxTimeout } from "@castellan/domain/task/CommandRun.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { Duration, Schema } from "effect"
import { HttpApiSchema } from "effect/http-api"
import { field, milliseconds, optional, ProgramText, success } from "./Fields.ts"
import { Run } from "./groups/TaskRuns.ts"

const isName = Schema.is(EnvironmentName)

/** Refuses an invalid name here, because Schema.Record drops keys that don't match. */
const Environment = Schema.Record(Schema.String, Argument).check(
  Schema.makeFilter((env) => Object.keys(env).every((name) => isName(name)), {
    message: "must name its variables by letters, digits and _, not beginning with a digit"
  })
)

/** The options of every command. */
export const commandOptions = {
  args: optional(
    Schema.Array(Argument),
    "The arguments of the command. They are never interpreted by a shell. Default: none."
  ),
  cwd: optional(
    ProgramText,
    "The working directory: absolute, or relative to the sandbox's home directory. Default: the home directory."
  ),
  env: optional(Environment, "Environment variables, added to the sandbox's environment. Default: none."),
  timeoutMs: optional(
    milliseconds(maxTimeout),
    `The time after which the command is killed, in milliseconds, 1 to ${Duration.toMillis(maxTimeout)}. Default: ${Duration.toMillis(defaultTimeout)}.`
  )
}

export const NewCommand = Schema.Struct({
  command: field(ProgramText, "The program to run. It is never interpreted by a shell."),
  ...commandOptions,
  wait: optional(
    Schema.Boolean,
    "Whether to wait for the command. If true, the response is 200 with the run once the command has ended or `timeoutMs` has passed; after 120 s (`CASTELLAN_WAIT_SECONDS`), or if the server shuts down, it is 202 with the run's id, and the command continues. Default: false."
  )
})

/** `NewCommand` in the sandbox of a session. */
export const NewSessionCommand = Schema.Struct({
  ...NewCommand.fields,
  cwd: optional(
    ProgramText,
    "The working directory: absolute, or relative to the session's working tree, `~/workspace`. Default: the working tree. In a sandbox that was started before working trees had their own directory, it is the home directory."
  )
})

const runId = field(RunId, "The id of the run.")

/** The id of the run, and the run itself if it ended during the wait. */
export const commandAnswers = [
  Schema.Struct({ ...success, runId }).pipe(HttpApiSchema.status(202)),
  Schema.Struct({ ...success, run: Run })
] as const

/** The command of a request, and its timeout. */
export const commandIn = ({ args, command, cwd, env, timeoutMs }: typeof NewCommand.Type) => ({
  command: new Command({ command, args: args ?? [], cwd: cwd ?? null, env: env ?? {} }),
  timeout: timeoutMs ? Duration.millis(timeoutMs) : defaultTimeout
})

/** How long to wait for a command with the timeout: 2 s longer, so that its end is stored by then. */
export const waitFor = (timeout: Duration.Duration): Duration.Duration => Duration.sum(timeout, Duration.seconds(2))
