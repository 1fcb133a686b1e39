/**
 * Emulates GitHub's REST API and git over HTTP, over real repositories in a temporary directory. It has one organization
 * and one user, whose token has admin rights.
 */
import { Context, Effect, Layer, type Scope } from "effect"
import { mkdtemp, rm } from "node:fs/promises"
import type { AddressInfo } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import * as Faults from "../Faults.ts"
import type { Fault } from "./Faults.ts"
import * as Repositories from "./Repositories.ts"
import * as Server from "./Server.ts"

export interface EmulatorOptions {
  /** The login of the organization. */
  readonly organization?: string
  /** The login of the user of `token`. */
  readonly user?: string
  readonly token?: string
  /** The most entries of a recursive tree before it is truncated; 100,000 by default, as at GitHub. */
  readonly treeLimit?: number
  /** The most entries of a tree that is not recursive. */
  readonly directoryLimit?: number
  /** The most bytes of a file that is served; 100 MB by default, as at GitHub. */
  readonly blobLimit?: number
  /** The default branch of new repositories. */
  readonly branch?: string
}

export interface Emulator {
  /** The base URL of git (`<url>/<owner>/<name>.git`) and, with `/api/v3`, of the REST API as on GitHub Enterprise Server. */
  readonly url: string
  /** The base URL of the REST API as on api.github.com, without a prefix. */
  readonly apiUrl: string
  readonly organization: string
  readonly user: string
  /** A token with admin rights to the repositories of the organization and the user. */
  readonly token: string
  /** Adds a token of a new user with a right to the organization's repositories. */
  readonly addToken: (token: string, right: Repositories.Right) => void
  readonly faults: Faults.Faults<Fault>
  /** All requests so far, in order. */
  readonly requests: ReadonlyArray<Server.RecordedRequest>
  readonly repositories: () => ReadonlyArray<{
    readonly owner: string
    readonly name: string
    readonly private: boolean
  }>
  /** The directory of the bare repository. */
  readonly repositoryDirectory: (owner: string, name: string) => string | undefined
  /** Renames a repository, as its owner could. */
  readonly rename: (owner: string, name: string, to: string) => void
  /** Creates a public repository, and its owner, if they are missing; returns its directory. */
  readonly publish: (owner: string, name: string) => Promise<string>
  /** Rejects every push to a branch. */
  readonly protect: (owner: string, name: string, branch: string) => Promise<void>
}

export class GitHubEmulator extends Context.Service<GitHubEmulator, Emulator>()(
  "testkit/emulators/github/GitHubEmulator"
) {}

/** Starts an emulator, which stops and deletes its repositories when the scope closes. */
export const start = (options: EmulatorOptions = {}): Effect.Effect<Emulator, never, Scope.Scope> =>
  Effect.gen(function* () {
    const root = yield* Effect.acquireRelease(
      Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-github-"))),
      (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true, maxRetries: 3 }))
    )
    const organization = { id: 1000, login: options.organization ?? "castellan-repos", type: "Organization" as const }
    const user = { id: 1001, login: options.user ?? "castellan-bot", type: "User" as const }
    const token = options.token ?? "token-for-tests"
    const identities = new Map<string, Repositories.Identity>([[token, { user, right: "admin" }]])
    const owners: Array<Repositories.Owner> = [organization, user]
    const repositories = Repositories.make(root)
    const faults = Faults.make<Fault>()
    const requests: Array<Server.RecordedRequest> = []
    const state = {
      repositories,
      owners,
      treeLimit: options.treeLimit ?? 100_000,
      directoryLimit: options.directoryLimit ?? 100_000,
      blobLimit: options.blobLimit ?? 100 * 1024 * 1024,
      branch: options.branch ?? "main"
    }
    const server = yield* Effect.acquireRelease(
      Effect.promise(() => Server.listen({ state, identities, faults, requests })),
      (server) =>
        Effect.promise(() => {
          server.closeAllConnections()
          return new Promise((resolve) => server.close(resolve))
        })
    )
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const find = (owner: string, name: string) => {
      const found = repositories.find(owner, name)
      if (found === undefined) throw new Error(`The emulator has no ${owner}/${name}`)
      return found
    }

    const addUser = (login: string) => {
      const owner = { id: 1000 + owners.length, login, type: "User" as const }
      owners.push(owner)
      return owner
    }

    return {
      url,
      apiUrl: url,
      organization: organization.login,
      user: user.login,
      token,
      addToken: (token, right) => {
        identities.set(token, { user: addUser(`user-${owners.length}`), right })
      },
      faults,
      requests,
      repositories: () =>
        repositories.all().map((one) => ({ owner: one.owner.login, name: one.name, private: one.private })),
      repositoryDirectory: (owner, name) => repositories.find(owner, name)?.directory,
      rename: (owner, name, to) => repositories.rename(find(owner, name), to),
      publish: async (owner, name) => {
        const known = owners.find(({ login }) => login.toLowerCase() === owner.toLowerCase())
        await repositories.create(known ?? addUser(owner), name, false, state.branch)
        return find(owner, name).directory
      },
      protect: (owner, name, branch) => repositories.protect(find(owner, name), branch)
    }
  })

export const layer = (options: EmulatorOptions = {}): Layer.Layer<GitHubEmulator> =>
  Layer.effect(GitHubEmulator, start(options))
