/** Flags and arguments that several commands take. */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"

const isId = Schema.String.check(Schema.isPattern(/^[\w-]+$/, { message: "Expected letters, digits, _ and - only" }))

/** An id, which never reaches further than its one place in a path. */
export const id = (name: string, description: string) =>
  Argument.String(name).pipe(Argument.withDescription(description), Argument.withSchema(isId))

const orUndefined = <A>(flag: Flag.Flag<A>) => Flag.map(Flag.optional(flag), Option.getOrUndefined)

/** Text that may be left out. */
export const text = (name: string, metavar: string, description: string) =>
  orUndefined(Flag.String(name).pipe(Flag.withMetavar(metavar), Flag.withDescription(description)))

/** The account that a command is for, where it is not the key's own. */
export const account = text("account", "ID", "The account to act for, where it is not the key's own")

export const page = {
  limit: orUndefined(
    Flag.Int("limit").pipe(Flag.withMetavar("N"), Flag.withDescription("How many to list, from 1 to 100"))
  ),
  all: Flag.Boolean("all").pipe(Flag.withDescription("List all of them"), Flag.withDefault(false))
}

const program = Argument.String("COMMAND").pipe(
  Argument.withDescription("The program to run and its arguments, behind --")
)

/** A program and its arguments, behind `--`; none where there is nothing to run. */
export const commandLine = Argument.variadic(program)

/** A program and its arguments, behind `--`. */
export const requiredCommandLine = Argument.atLeast(program, 1)

/** Whether to leave what was started to itself. */
export const noFollow = Flag.Boolean("no-follow").pipe(
  Flag.withoutNegation,
  Flag.withDescription("Start it and leave it to itself"),
  Flag.withDefault(false)
)

const millisPer = { s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 } as const

const durationForm = "Expected a duration such as 90s, 30m or 2h"

/** The milliseconds of a duration; 0 for what is none. */
export const millisOf = (text: string): number => {
  const match = /^(\d{1,6})\s*(s|m|min|h|d)$/.exec(text)
  return match === null ? 0 : Number(match[1]) * millisPer[match[2] as keyof typeof millisPer]
}

/** How much longer something is to go on; `millisOf` knows how much that is. */
export const duration = Argument.String("DURATION").pipe(
  Argument.withDescription("How much longer, as 90s, 30m or 2h"),
  Argument.withSchema(Schema.String.check(Schema.makeFilter((text) => millisOf(text) > 0 || durationForm)))
)

/** Where a command of a session runs. */
export const cwdInTree = text("cwd", "PATH", "Where to run it; the working tree, ~/workspace, if left out")

/** Where a command runs. */
export const cwd = text("cwd", "PATH", "Where to run it; the sandbox's home if left out")
