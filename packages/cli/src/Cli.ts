/** Runs the command line: from arguments to an exit code. */
import * as CliConfig from "effect/cli/CliConfig"
import * as CliError from "effect/cli/CliError"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as TerminalCapabilities from "effect/cli/TerminalCapabilities"
import * as SecureRandom from "effect/crypto/SecureRandom"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Logger from "effect/Logger"
import type * as Stdio from "effect/Stdio"
import { commands } from "./commands.ts"
import { ExitCode } from "./ExitCode.ts"
import { explain } from "./client/Failure.ts"
import * as Output from "./output/Output.ts"

const version = "0.1.0"

const sayInvalid = (path: ReadonlyArray<string>, messages: ReadonlyArray<string>) =>
  Output.say(`${messages.join("; ")} (see: ${path.join(" ")} --help)`)

/** Prints help to standard output, and usage errors to standard error, in one line. */
const presenter = Layer.effect(
  CliOutput.Presenter,
  Effect.gen(function* () {
    const stdio = yield* Effect.context<Stdio.Stdio>()
    const { canColor } = yield* TerminalCapabilities.TerminalCapabilities
    const formatter = CliOutput.defaultFormatter({ colors: canColor })
    const show = (text: string) => Effect.ignore(Output.print(`${text}\n`))
    return {
      present: (event) => {
        switch (event._tag) {
          case "Help":
            return Effect.provide(show(formatter.formatHelpDoc(event.helpDoc)), stdio)
          case "Version":
            return Effect.provide(show(`${event.name} ${event.version}`), stdio)
          case "InvalidInvocation":
            return Effect.provide(
              sayInvalid(
                event.commandPath,
                event.errors.map(({ message }) => message)
              ),
              stdio
            )
        }
      }
    } satisfies CliOutput.Presenter
  })
).pipe(Layer.provide(TerminalCapabilities.layer))

const services = Layer.mergeAll(
  presenter,
  // Standard output is for the requested output only.
  Layer.succeed(Logger.LogToStderr, true),
  SecureRandom.layerWebCrypto,
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version, GlobalFlag.Completions] })
)

const exitCodeOf = (error: CliError.CliError): number =>
  error._tag === "ShowHelp" && error.errors.length === 0 ? ExitCode.ok : ExitCode.usage

/** Runs the command and returns the exit code. */
export const run = (args: ReadonlyArray<string>) =>
  Command.runWith(commands, { version })(args).pipe(
    Effect.as<number>(ExitCode.ok),
    Effect.catch((error) => {
      // The presenter has printed help and usage errors already.
      if (CliError.isCliError(error)) return Effect.succeed(exitCodeOf(error))
      const { exit, say } = explain(error)
      return Effect.as(say === "" ? Effect.void : Output.say(say), exit)
    }),
    Effect.catchDefect((defect) =>
      Effect.as(
        Output.say(`unexpected error, which may be a bug or a server of another version: ${defect}`),
        ExitCode.failed
      )
    ),
    Effect.provide(services)
  )
