/** Command-line arguments of the development commands: parsed, checked against bounds, and described by `--help`. */
import { parseArgs } from "node:util"

interface Described {
  /** One line for `--help`. */
  readonly about: string
}

/** An option without a value. */
export interface Switch extends Described {
  readonly type: "switch"
}

/** An integer within inclusive bounds. */
export interface Integer extends Described {
  readonly type: "integer"
  readonly min: number
  readonly max: number
  /** An omitted option without a default is undefined. */
  readonly default?: number
  /** The value must be a multiple of this. */
  readonly multipleOf?: number
}

export interface Text extends Described {
  readonly type: "text"
  /** The whole value must match. */
  readonly pattern: RegExp
}

export type Option = Switch | Integer | Text

type Value<O extends Option> = O extends Switch
  ? boolean
  : O extends { readonly type: "integer"; readonly default: number }
    ? number
    : O extends Integer
      ? number | undefined
      : string | undefined

export type Values<O extends Record<string, Option>> = { readonly [K in keyof O]: Value<O[K]> }

export interface Command<O extends Record<string, Option>, P extends Record<string, Integer>> {
  /** The command, such as `npm run soak`. */
  readonly name: string
  /** What it does, in one or more lines. */
  readonly about: string
  readonly options: O
  /** Positional numbers, in this order. */
  readonly positionals?: P
  /** Accepted words with their descriptions. */
  readonly words?: Record<string, string>
}

export type Parsed<O extends Record<string, Option>, P extends Record<string, Integer>> =
  | { readonly _tag: "Help"; readonly text: string }
  | { readonly _tag: "Refused"; readonly sentence: string }
  | { readonly _tag: "Values"; readonly values: Values<O> & Values<P>; readonly words: ReadonlyArray<string> }

class Refusal extends Error {}

const integerOf = (name: string, { max, min, multipleOf = 1 }: Integer, text: string): number => {
  const value = /^\d{1,15}$/.test(text) ? Number(text) : NaN
  if (value >= min && value <= max && value % multipleOf === 0) return value
  const kind = multipleOf === 1 ? "a whole number" : `a multiple of ${multipleOf}`
  throw new Refusal(`${name} must be ${kind} from ${min} to ${max}, not "${text}".`)
}

const valueOf = (name: string, option: Option, given: string | boolean | undefined) => {
  if (option.type === "switch") return given === true
  if (given === undefined) return option.type === "integer" ? option.default : undefined
  if (option.type === "integer") return integerOf(name, option, String(given))
  if (option.pattern.test(String(given))) return String(given)
  throw new Refusal(`${name} is ${option.about}, not "${given}".`)
}

const lines = (rows: ReadonlyArray<readonly [string, string]>) => {
  const width = Math.max(...rows.map(([name]) => name.length))
  return rows.map(([name, about]) => `  ${name.padEnd(width)}  ${about}`).join("\n")
}

const described = (option: Option) =>
  option.type === "integer" && option.default !== undefined
    ? `${option.about} (default ${option.default})`
    : option.about

const helpOf = ({ about, name, options, positionals = {}, words = {} }: Command<any, any>): string => {
  const optionRows = Object.entries<Option>(options).map(
    ([key, option]) => [`--${key}${option.type === "switch" ? "" : " <value>"}`, described(option)] as const
  )
  const positionalRows = Object.entries<Integer>(positionals).map(
    ([key, option]) => [`<${key}>`, described(option)] as const
  )
  const wordRows = Object.entries(words)
  const usage = [
    `Usage: ${name} -- [options]`,
    ...Object.keys(positionals).map((key) => `[${key}]`),
    ...(wordRows.length > 0 ? ["[name …]"] : [])
  ].join(" ")
  const parts = [usage, about]
  if (positionalRows.length > 0) parts.push(lines(positionalRows))
  if (wordRows.length > 0) parts.push(`Names:\n${lines(wordRows)}`)
  parts.push(`Options:\n${lines([...optionRows, ["--help", "Print this text."]])}`)
  return parts.join("\n\n")
}

/** Parses arguments without side effects: the values, the help text, or why the arguments are invalid. */
export const parse = <const O extends Record<string, Option>, const P extends Record<string, Integer> = {}>(
  command: Command<O, P>,
  args: ReadonlyArray<string>
): Parsed<O, P> => {
  const { name, options, positionals = {}, words = {} } = command
  try {
    const declared = Object.entries(options).map(
      ([key, { type }]) => [key, { type: type === "switch" ? "boolean" : "string" } as const] as const
    )
    const flags = { ...Object.fromEntries(declared), help: { type: "boolean" } as const }
    const given = parseArgs({ args: [...args], options: flags, allowPositionals: true })
    const flagged: Record<string, string | boolean | undefined> = given.values
    if (flagged["help"] === true) return { _tag: "Help", text: helpOf(command) }
    const named = Object.entries(options).map(
      ([key, option]) => [key, valueOf(`--${key}`, option, flagged[key])] as const
    )
    const slots = Object.entries<Integer>(positionals)
    const placed = slots.map(([key, option], index) => [key, valueOf(key, option, given.positionals[index])] as const)
    const rest = given.positionals.slice(slots.length)
    const unknown = rest.find((word) => !Object.hasOwn(words, word))
    if (unknown !== undefined) {
      const known = Object.keys(words)
      const all = known.length === 0 ? "" : ` The names are ${known.join(", ")}.`
      throw new Refusal(`Unexpected argument "${unknown}".${all}`)
    }
    const values = Object.fromEntries<unknown>([...named, ...placed]) as Values<O> & Values<P>
    return { _tag: "Values", values, words: rest }
  } catch (cause) {
    if (cause instanceof Refusal) return { _tag: "Refused", sentence: `${cause.message} See ${name} -- --help.` }
    // `parseArgs` throws a TypeError; the first sentence of its message is enough.
    if (!(cause instanceof TypeError)) throw cause
    const [sentence] = cause.message.split(/\.(?: |$)/)
    return { _tag: "Refused", sentence: `${sentence}. See ${name} -- --help.` }
  }
}

/** Parses the arguments of this process. Prints the help and exits with 0, or the error and exits with 2. */
export const read = <const O extends Record<string, Option>, const P extends Record<string, Integer> = {}>(
  command: Command<O, P>
) => {
  const parsed = parse(command, process.argv.slice(2))
  switch (parsed._tag) {
    case "Values":
      return parsed
    case "Help":
      console.log(parsed.text)
      process.exit(0)
    case "Refused":
      console.error(parsed.sentence)
      process.exit(2)
  }
}
