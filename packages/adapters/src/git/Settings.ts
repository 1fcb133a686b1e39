/** Settings that all hosts of repositories have: what the environment says, or the sentence that refuses it. */
import { Config, Effect, Option } from "effect"

/** What the URLs of most public repositories begin with. */
export const defaultGitHubUrl = "https://github.com"

/** The variable's text; an empty one counts as not set. */
export const text = (name: string): Effect.Effect<Option.Option<string>, string> =>
  Config.option(Config.String(name)).pipe(
    Config.map(Option.map((value) => value.trim())),
    Config.map(Option.filter((value) => value !== "")),
    Effect.mapError(() => `${name} can't be read`)
  )

const loopback = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/

/** The URL without a `/` at its end; undefined if a credential would be in it, or go in the clear to another machine. */
const plain = (value: string): string | undefined => {
  const url = URL.parse(value)
  if (url === null || url.username !== "" || url.password !== "" || /[?#]/.test(value)) return undefined
  const isSafe = url.protocol === "https:" || (url.protocol === "http:" && loopback.test(url.hostname))
  return isSafe ? url.href.replace(/\/+$/, "") : undefined
}

/** The variable as a URL without a `/` at its end. */
export const url = (name: string, otherwise: string): Effect.Effect<string, string> =>
  Effect.flatMap(text(name), (value) => {
    if (Option.isNone(value)) return Effect.succeed(otherwise)
    const address = plain(value.value)
    // It is not shown: somebody may have put a password into it.
    return address === undefined
      ? Effect.fail(`${name} must be https://host (http:// for this host only), without user, password or query`)
      : Effect.succeed(address)
  })
