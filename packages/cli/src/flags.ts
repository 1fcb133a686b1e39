/** Flags and arguments that several commands take. */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

const isId = Schema.String.check(Schema.isPattern(/^[\w-]+$/, { message: "Expected letters, digits, _ and - only" }))

/** An id. Its characters can't change the meaning of a URL path. */
export const id = (name: string, description: string) =>
  Argument.String(name).pipe(Argument.withDescription(description), Argument.withSchema(isId))

const orUndefined = <A>(flag: Flag.Flag<A>) => Flag.map(Flag.optional(flag), Option.getOrUndefined)

/** An optional text flag. */
export const text = (name: string, metavar: string, description: string) =>
  orUndefined(Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description)))

export const account = text("account", "ID", "The account to act for; the key's own account if left out")

export const page = {
  limit: orUndefined(
    Flag.Int("limit").pipe(Flag.withMetavar("N"), Flag.withDescription("Entries to list, from 1 to 100"))
  ),
  all: Flag.Boolean("all").pipe(Flag.withDescription("List all entries, in several requests"), Flag.withDefault(false))
}

const program = Argument.String("COMMAND").pipe(
  Argument.withDescription("The program to run and its arguments, after --")
)

/** An optional program and its arguments, after `--`. */
export const commandLine = Argument.variadic(program)

/** A program and its arguments, after `--`. */
export const requiredCommandLine = Argument.atLeast(program, 1)

export const noFollow = Flag.Boolean("no-follow").pipe(
  Flag.withoutNegation,
  Flag.withDescription("Start the run and exit without following it"),
  Flag.withDefault(false)
)

const millisPer = { s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 } as const

const durationError = "Expected a duration such as 90s, 30m or 2h"

/** The milliseconds of a duration; 0 if it is invalid. */
export const millisOf = (text: string): number => {
  const match = /^(\d{1,6})\s*(s|m|min|h|d)$/.exec(text)
  return match === null ? 0 : Number(match[1]) * millisPer[match[2] as keyof typeof millisPer]
}

/** An additional time, to be read by `millisOf`. */
export const duration = Argument.String("DURATION").pipe(
  Argument.withDescription("The additional time, such as 90s, 30m or 2h"),
  Argument.withSchema(Schema.String.check(Schema.makeFilter((text) => millisOf(text) > 0 || durationError)))
)

/** The working directory of a session's command. */
export const cwdInTree = text("cwd", "PATH", "The working directory; ~/workspace if left out")

/** The working directory of a sandbox's command. */
export const cwd = text("cwd", "PATH", "The working directory; the home directory of the sandbox if left out")
