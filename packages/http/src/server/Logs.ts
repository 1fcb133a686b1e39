/** Logging: readable lines for people, or one JSON object per line for programs, with credentials redacted. */
import { Layer, Logger, type LogLevel, References } from "effect"
import { inspect } from "node:util"

export type LogFormat = "readable" | "json"

/** Text that looks like a credential. An upstream's error message may repeat the request that it got. */
const credentials: ReadonlyArray<readonly [RegExp, string]> = [
  [/\bcst_\w+/g, "cst_<redacted>"],
  [/\b(Bearer|Basic|token)(\s+)[\w.~+/=-]{8,}/gi, "$1$2<redacted>"],
  [/\b(gh[pousr]_|github_pat_)\w+/g, "$1<redacted>"],
  [/\beyJ[\w-]+\.[\w-]+\.[\w-]*/g, "<redacted>"],
  [/(\/\/)[^\s/@"']+@/g, "$1<redacted>@"]
]

/** Redacts these secrets and everything that looks like a credential. */
export const redact = (text: string, secrets: ReadonlyArray<string>): string => {
  let clean = text
  for (const secret of secrets) clean = clean.replaceAll(secret, "<redacted>")
  for (const [pattern, replacement] of credentials) clean = clean.replace(pattern, replacement)
  return clean
}

export interface LogOptions {
  readonly format: LogFormat
  readonly level: LogLevel.LogLevel
  /** Values to redact wherever they appear. */
  readonly secrets: ReadonlyArray<string>
  /** Writes a line; to the console if left out. */
  readonly write?: (line: string) => void
}

const json = Logger.map(Logger.formatStructured, ({ annotations, cause, level, message, timestamp }) =>
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

export const logger = ({ format, secrets, write = (line) => console.log(line) }: Omit<LogOptions, "level">) =>
  Logger.map(format === "json" ? json : readable, (line) => write(redact(line, secrets)))

/** Replaces all other loggers, including the one that adds log lines to spans. */
export const layer = ({ level, ...options }: LogOptions) =>
  Layer.merge(Logger.layer([logger(options)]), Layer.succeed(References.MinimumLogLevel, level))
