/** What the server says of itself while it runs: for people, or one JSON object a line for programs. */
import { Layer, Logger, type LogLevel, References } from "effect"
import { inspect } from "node:util"

/** For whom the lines are. */
export type LogFormat = "readable" | "json"

/** What looks like a credential, wherever it stands: what an upstream says may repeat what it was sent. */
const credentials: ReadonlyArray<readonly [RegExp, string]> = [
  [/\bcst_\w+/g, "cst_<redacted>"],
  [/\b(Bearer|Basic|token)(\s+)[\w.~+/=-]{8,}/gi, "$1$2<redacted>"],
  [/\b(gh[pousr]_|github_pat_)\w+/g, "$1<redacted>"],
  [/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, "<redacted>"],
  [/(\/\/)[^\s/@"']+@/g, "$1<redacted>@"]
]

/** The text without what looks like a credential, and without the secrets given. */
export const scrubbed = (text: string, secrets: ReadonlyArray<string>): string => {
  let clean = text
  for (const secret of secrets) clean = clean.replaceAll(secret, "<redacted>")
  for (const [shape, instead] of credentials) clean = clean.replace(shape, instead)
  return clean
}

export interface LogOptions {
  readonly format: LogFormat
  readonly level: LogLevel.LogLevel
  /** What is never to be seen in a line, whatever it looks like. */
  readonly secrets: ReadonlyArray<string>
  /** Where lines go; to the console if left out. */
  readonly write?: (line: string) => void
}

const flat = Logger.map(Logger.formatStructured, ({ annotations, cause, level, message, timestamp }) =>
  JSON.stringify(
    { timestamp, level, message, ...(cause === undefined ? {} : { cause }), ...annotations },
    (_, value) => (typeof value === "bigint" ? String(value) : value)
  )
)

const readable = Logger.map(Logger.formatStructured, ({ annotations, cause, level, message, timestamp }) => {
  const parts: Array<unknown> = [
    ...(Array.isArray(message) ? message : [message]),
    ...(cause === undefined ? [] : [cause])
  ]
  if (Object.keys(annotations).length > 0) parts.push(annotations)
  return `[${timestamp}] ${level}: ${parts.map((part) => (typeof part === "string" ? part : inspect(part, { breakLength: Infinity }))).join(" ")}`
})

/** A logger that writes a line for each thing said. */
export const logger = ({ format, secrets, write = (line) => console.log(line) }: Omit<LogOptions, "level">) =>
  Logger.map(format === "json" ? flat : readable, (line) => write(scrubbed(line, secrets)))

/** The logger, in the place of all others: what is logged goes nowhere else, not into spans either. */
export const layer = ({ level, ...options }: LogOptions) =>
  Layer.merge(Logger.layer([logger(options)]), Layer.succeed(References.MinimumLogLevel, level))
