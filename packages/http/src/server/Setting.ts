/** Reads and validates single environment variables. A value that can't be used fails with a sentence that names it. */
import { Config, Effect, Option, Schema } from "effect"

/** The configuration can't be used. The message names the variable, its value and what it must be. */
export class InvalidConfig extends Schema.TaggedError<InvalidConfig>()("InvalidConfig", {
  message: Schema.String
}) {}

export const invalid = (message: string) => Effect.fail(new InvalidConfig({ message }))

/** The variable's value; an empty or blank one counts as not set. */
export const text = (name: string) =>
  Config.option(Config.String(name)).pipe(
    Config.map(Option.filter((value) => value.trim() !== "")),
    Effect.mapError(() => new InvalidConfig({ message: `${name} can't be read` }))
  )

export interface Format<A> {
  /** Completes the sentence "NAME must be …". */
  readonly mustBe: string
  /** Undefined if the value is malformed. */
  readonly parse: (value: string) => A | undefined
  /** Whether the error must not contain the value. */
  readonly isSecret?: boolean
}

/** The variable's value in this format; none where it is not set. */
export const optional = <A>(name: string, { isSecret = false, mustBe, parse }: Format<A>) =>
  Effect.flatMap(
    text(name),
    Option.match({
      onNone: () => Effect.succeed(Option.none<A>()),
      onSome: (value) => {
        const parsed = parse(value)
        if (parsed !== undefined) return Effect.succeed(Option.some(parsed))
        return invalid(isSecret ? `${name} must be ${mustBe}` : `${name} is "${value}"; it must be ${mustBe}`)
      }
    })
  )

/** The variable's value in this format, or the default where it is not set. */
export const withDefault = <A>(name: string, format: Format<A>, defaultValue: A) =>
  Effect.map(
    optional(name, format),
    Option.getOrElse(() => defaultValue)
  )

export const oneOf = <A extends string>(...allowed: ReadonlyArray<A>): Format<A> => ({
  mustBe: allowed.map((one) => `"${one}"`).join(" or "),
  parse: (value) => allowed.find((one) => one === value)
})

/** A whole number within these bounds. */
export const integer = (min: number, max: number): Format<number> => ({
  mustBe: `a whole number from ${min} to ${max}`,
  parse: (value) => {
    const number = /^\d+$/.test(value.trim()) ? Number(value) : NaN
    return number >= min && number <= max ? number : undefined
  }
})

export const parseWebUrl = (value: string): URL | undefined => {
  const url = URL.parse(value)
  return url !== null && /^https?:$/.test(url.protocol) ? url : undefined
}

/** The URL as it was given. */
export const webUrl: Format<string> = {
  mustBe: "an http or https URL",
  parse: (value) => (parseWebUrl(value) === undefined ? undefined : value)
}

/** `name=value` pairs as the OpenTelemetry variables have them; values are percent-encoded. */
export const pairs: Format<Record<string, string>> = {
  mustBe: "name=value pairs, separated by commas, with percent-encoded values",
  isSecret: true,
  parse: (value) => {
    try {
      const matches = value
        .split(",")
        .filter((pair) => pair.trim() !== "")
        .map((pair) => /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/.exec(pair)!)
      return Object.fromEntries(matches.map(([, name, encoded]) => [name!, decodeURIComponent(encoded!)]))
    } catch {
      return undefined
    }
  }
}
