/** What the adapter is told, and how the environment tells it. */
import type { TreeLimits } from "@castellan/domain/repo/FileTree.ts"
import { RepoOwner } from "@castellan/domain/repo/Repo.ts"
import { type Duration, Effect, Option, Redacted, Schema } from "effect"
import * as Settings from "../git/Settings.ts"

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
  /** How much of a tree is read; `treeLimits` of the domain if not said. */
  readonly treeLimits?: TreeLimits
  /** Requests that are made for one tree; 300 if not said. GitHub allows 5,000 an hour for everything. */
  readonly treeRequests?: number
}

/** Where the REST API of a GitHub is: github.com's has a host of its own, an Enterprise Server's a path. */
export const apiOf = (url: string): string =>
  url === Settings.defaultGitHubUrl ? "https://api.github.com" : `${url}/api/v3`

const refuse = (message: string) => Effect.fail(new GitHubUnavailable({ message }))

const refused = Effect.mapError((message: string) => new GitHubUnavailable({ message }))

const text = (name: string) => refused(Settings.text(name))

const address = (name: string, otherwise: string) => refused(Settings.url(name, otherwise))

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

/** GITHUB_TOKEN, GITHUB_ORG, GITHUB_URL and GITHUB_API_URL. */
export const fromConfig: Effect.Effect<GitHubOptions, GitHubUnavailable> = Effect.gen(function* () {
  const url = yield* address("GITHUB_URL", Settings.defaultGitHubUrl)
  return { token: yield* token, owner: yield* owner, url, apiUrl: yield* address("GITHUB_API_URL", apiOf(url)) }
})
