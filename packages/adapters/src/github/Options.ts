/** What the adapter is told, and how the environment tells it. */
import { RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { Config, type Duration, Effect, Option, Redacted, Schema } from "effect"

/** GitHub can't be used as it is configured; the message names the setting. */
export class GitHubUnavailable extends Schema.TaggedError<GitHubUnavailable>()("GitHubUnavailable", {
  message: Schema.String
}) {}

export interface GitHubOptions {
  /** May make, read, write and delete the owner's repositories. */
  readonly token: Redacted.Redacted<string>
  /** An organization, or the user the token belongs to. */
  readonly owner: RepoOwner
  /** What the repositories' URLs begin with, without a `/` at its end; https://github.com if not said. */
  readonly url?: string
  /** Of the REST API; if not said, what `apiOf` makes of `url`. */
  readonly apiUrl?: string
  /** How long a request to the REST API may take; 30 seconds if not said. */
  readonly timeout?: Duration.Input
}

export const github = "https://github.com"

/** Where the REST API of a GitHub is: github.com's has a host of its own, an Enterprise Server's a path. */
export const apiOf = (url: string): string => (url === github ? "https://api.github.com" : `${url}/api/v3`)

const refuse = (message: string) => Effect.fail(new GitHubUnavailable({ message }))

/** The variable's text; an empty one counts as not set. */
const text = (name: string) =>
  Config.option(Config.String(name)).pipe(
    Config.map(Option.map((value) => value.trim())),
    Config.map(Option.filter((value) => value !== "")),
    Effect.mapError(() => new GitHubUnavailable({ message: `${name} can't be read` }))
  )

const token = Effect.flatMap(text("GITHUB_TOKEN"), (value) => {
  if (Option.isNone(value)) return refuse("GITHUB_TOKEN is not set; it must be a token that may use GITHUB_ORG")
  return /^[\x21-\x7e]+$/.test(value.value)
    ? Effect.succeed(Redacted.make(value.value))
    : refuse("GITHUB_TOKEN must be printable characters without spaces")
})

const isOwner = Schema.is(RepoOwner)

const owner = Effect.flatMap(text("GITHUB_ORG"), (value) => {
  if (Option.isNone(value)) return refuse("GITHUB_ORG is not set; it must be an organization, or the token's own user")
  return isOwner(value.value)
    ? Effect.succeed(value.value)
    : refuse(`GITHUB_ORG is "${value.value}"; it must be the name of an organization or a user`)
})

const loopback = /^(?:localhost|127(?:\.\d+){3}|\[::1\])$/

/** The URL without a `/` at its end; undefined if a credential would be in it, or go in the clear to another machine. */
const plain = (value: string): string | undefined => {
  const url = URL.parse(value)
  if (url === null || url.username !== "" || url.password !== "" || /[?#]/.test(value)) return undefined
  const isSafe = url.protocol === "https:" || (url.protocol === "http:" && loopback.test(url.hostname))
  return isSafe ? url.href.replace(/\/+$/, "") : undefined
}

const address = (name: string, otherwise: string) =>
  Effect.flatMap(text(name), (value) => {
    if (Option.isNone(value)) return Effect.succeed(otherwise)
    const url = plain(value.value)
    // It is not shown: somebody may have put a password into it.
    return url === undefined
      ? refuse(`${name} must be https://host (http:// for this host only), without user, password or query`)
      : Effect.succeed(url)
  })

/** GITHUB_TOKEN, GITHUB_ORG, GITHUB_URL and GITHUB_API_URL. */
export const fromConfig: Effect.Effect<GitHubOptions, GitHubUnavailable> = Effect.gen(function* () {
  const url = yield* address("GITHUB_URL", github)
  return { token: yield* token, owner: yield* owner, url, apiUrl: yield* address("GITHUB_API_URL", apiOf(url)) }
})
