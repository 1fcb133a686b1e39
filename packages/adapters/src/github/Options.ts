/** The options of the GitHub adapter, and how they are read from the environment. */
import type { TreeLimits } from "@castellan/domain/repo/FileTree.ts"
import { RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { type Duration, Effect, Option, Redacted, Schema } from "effect"
import * as Settings from "../git/Settings.ts"

/** GitHub can't be used as configured. The message names the setting or the missing package. */
export class GitHubUnavailable extends Schema.TaggedError<GitHubUnavailable>()("GitHubUnavailable", {
  message: Schema.String
}) {}

export interface GitHubOptions {
  /** A token that may create, read, write and delete the owner's repositories. */
  readonly token: Redacted.Redacted<string>
  /** An organization, or the user that the token belongs to. */
  readonly owner: RepoOwner
  /** The base URL of repositories, without a trailing slash; https://github.com by default. */
  readonly url?: string
  /** The URL of the REST API; `apiOf(url)` by default. */
  readonly apiUrl?: string
  /** The timeout of a request to the REST API; 30 seconds by default. */
  readonly timeout?: Duration.Input
  /** How much of a tree is read; the domain's `treeLimits` by default. */
  readonly treeLimits?: TreeLimits
  /** The most requests for one tree; 300 by default. GitHub allows 5,000 requests an hour in all. */
  readonly treeRequests?: number
}

/** The URL of a GitHub's REST API: github.com has a separate host for it, an Enterprise Server a path. */
export const apiOf = (url: string): string =>
  url === Settings.defaultGitHubUrl ? "https://api.github.com" : `${url}/api/v3`

const refuse = (message: string) => Effect.fail(new GitHubUnavailable({ message }))

const asUnavailable = Effect.mapError((message: string) => new GitHubUnavailable({ message }))

const text = (name: string) => asUnavailable(Settings.text(name))

const readUrl = (name: string, otherwise: string) => asUnavailable(Settings.url(name, otherwise))

const token = Effect.flatMap(text("GITHUB_TOKEN"), (value) => {
  if (Option.isNone(value)) return refuse("GITHUB_TOKEN is not set; it must be a token that may use GITHUB_ORG")
  return /^[\x21-\x7e]+$/.test(value.value)
    ? Effect.succeed(Redacted.make(value.value))
    : refuse("GITHUB_TOKEN must be printable characters without spaces")
})

const isOwner = Schema.is(RepoOwner)

const owner = Effect.flatMap(text("GITHUB_ORG"), (value) => {
  if (Option.isNone(value)) return refuse("GITHUB_ORG is not set; it must be an organization or the token's own user")
  return isOwner(value.value)
    ? Effect.succeed(value.value)
    : refuse(`GITHUB_ORG is "${value.value}"; it must be the name of an organization or a user`)
})

/** Reads GITHUB_TOKEN, GITHUB_ORG, GITHUB_URL and GITHUB_API_URL. */
export const fromConfig: Effect.Effect<GitHubOptions, GitHubUnavailable> = Effect.gen(function* () {
  const url = yield* readUrl("GITHUB_URL", Settings.defaultGitHubUrl)
  return { token: yield* token, owner: yield* owner, url, apiUrl: yield* readUrl("GITHUB_API_URL", apiOf(url)) }
})
