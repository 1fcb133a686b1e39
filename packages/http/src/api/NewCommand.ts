/** A command that is asked for in a sandbox, whoever's that is, and what is answered. */
import { Argument, Command, EnvironmentName } from "@castellan/domain/sandbox/Command.ts"
import { defaultTimeout, maxTimeout } from "@castellan/domain/task/CommandRun.ts"
import { RunId } from "@castellan/domain/task/TaskRun.ts"
import { Duration, Schema } from "effect"
import { HttpApiSchema } from "effect/http-api"
import { absent, milliseconds, ProgramText } from "./Fields.ts"
import { Run } from "./groups/TaskRuns.ts"

const isName = Schema.is(EnvironmentName)

/** A record drops the keys that don't fit; here they are told. */
const Environment = Schema.Record(Schema.String, Argument).check(
  Schema.makeFilter((env) => Object.keys(env).every((name) => isName(name)), {
    message: "must name its variables by letters, digits and _, not beginning with a digit"
  })
)

/** What any command takes beside its program. */
export const commandOptions = {
  args: absent(Schema.Array(Argument)),
  cwd: absent(ProgramText).annotate({
    description: "Where to run it: absolute, or relative to the sandbox's home directory, which it is if left out"
  }),
  /** Variables that are added to the sandbox's environment. */
  env: absent(Environment),
  /** When the command is killed; 15 minutes if left out. */
  timeoutMs: absent(milliseconds(maxTimeout))
}

export const NewCommand = Schema.Struct({
  /** The program to run; its arguments are passed on as they are, never through a shell. */
  command: ProgramText,
  ...commandOptions,
  wait: absent(
    Schema.Boolean.annotate({
      description:
        "Wait for the command: the answer is 200 with the run once the command has ended or `timeoutMs` has passed. After 120 s (`CASTELLAN_WAIT_SECONDS`), or when the server ends, it is 202 with the run's id, and the command goes on."
    })
  )
})

/** As `NewCommand`, in the sandbox of a session. */
export const NewSessionCommand = Schema.Struct({
  ...NewCommand.fields,
  cwd: absent(ProgramText).annotate({
    description:
      "Where to run it: absolute, or relative to the session's working tree, which it is if left out. The working tree is `~/workspace`; it is the home directory while a sandbox still runs that a server from before workspaces started."
  })
})

const success = { status: Schema.Literal("success") }

/** The run's id at once, or when a wait is given up; the run itself where a wait saw it end. */
export const commandAnswers = [
  Schema.Struct({ ...success, runId: RunId }).pipe(HttpApiSchema.status(202)),
  Schema.Struct({ ...success, run: Run })
] as const

/** The command that is meant, and how long it may take. */
export const commandIn = ({ args, command, cwd, env, timeoutMs }: typeof NewCommand.Type) => ({
  command: new Command({ command, args: args ?? [], cwd: cwd ?? null, env: env ?? {} }),
  timeout: timeoutMs ? Duration.millis(timeoutMs) : defaultTimeout
})

/** How long to wait for a command that may take so long: a moment longer, in which its end is written down. */
export const waitFor = (timeout: Duration.Duration): Duration.Duration => Duration.sum(timeout, Duration.seconds(2))
