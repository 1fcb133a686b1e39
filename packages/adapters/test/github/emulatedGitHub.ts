/** The GitHub adapter over GitHub's emulator. */
import type { GitMissing } from "@castellan/adapters/git/Git.ts"
import type { GitHubUnavailable } from "@castellan/adapters/github/Options.ts"
import * as GitHubRepos from "@castellan/adapters/github/GitHubRepos.ts"
import { type TreeLimits, treeLimits as limits } from "@castellan/domain/repo/FileTree.ts"
import { RepoOwner } from "@castellan/domain/repo/Repo.ts"
import type { RepoHost } from "@castellan/domain/repo/RepoHost.ts"
import * as GitHubEmulator from "@castellan/testkit/emulators/github/GitHubEmulator.ts"
import { type Duration, Effect, Layer, Redacted } from "effect"

export interface Emulated extends GitHubEmulator.EmulatorOptions {
  readonly timeout?: Duration.Input
  /** The owner of the repositories; the organization by default. */
  readonly owner?: "organization" | "user"
  readonly treeLimits?: TreeLimits
  readonly treeRequests?: number
}

/** The adapter and its emulator. */
export const emulated = ({
  owner = "organization",
  timeout = "30 seconds",
  treeLimits = limits,
  treeRequests = 300,
  ...options
}: Emulated = {}): Layer.Layer<GitHubEmulator.GitHubEmulator | RepoHost, GitHubUnavailable | GitMissing> =>
  Layer.unwrap(
    Effect.map(GitHubEmulator.GitHubEmulator, (github) =>
      GitHubRepos.layer({
        token: Redacted.make(github.token),
        owner: RepoOwner.make(github[owner]),
        url: github.url,
        apiUrl: github.apiUrl,
        timeout,
        treeLimits,
        treeRequests
      })
    )
  ).pipe(Layer.provideMerge(GitHubEmulator.layer(options)))
