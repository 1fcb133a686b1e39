/** Reads environment variables that repository hosts share. Errors are sentences for the operator. */
import { Config, Effect, Option } from "effect"

/** The base URL of public repositories. */
export const defaultGitHubUrl = "https://github.com"

/** The value of a variable. A blank one counts as not set. */
export const text = (name: string): Effect.Effect<Option.Option<string>, string> =>
  Config.option(Config.String(name)).pipe(
    Config.map(Option.map((value) => value.trim())),
    Config.map(Option.filter((value) => value !== "")),
    Effect.mapError(() => `${name} can't be read`)
  )

const loopback = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/

/** The URL without a trailing slash; undefined if it contains a credential, or would send one in clear text to a remote host. */
const safeUrl = (value: string): string | undefined => {
  const url = URL.parse(value)
  if (url === null || url.username !== "" || url.password !== "" || /[?#]/.test(value)) return undefined
  const isSafe = url.protocol === "https:" || (url.protocol === "http:" && loopback.test(url.hostname))
  return isSafe ? url.href.replace(/\/+$/, "") : undefined
}

/** The variable as a URL without a trailing slash. */
export const url = (name: string, otherwise: string): Effect.Effect<string, string> =>
  Effect.flatMap(text(name), (value) => {
    if (Option.isNone(value)) return Effect.succeed(otherwise)
    const address = safeUrl(value.value)
    // The message does not repeat the value, which may contain a password.
    return address === undefined
      ? Effect.fail(`${name} must be https://host (http:// for this host only), without user, password or query`)
      : Effect.succeed(address)
  })
