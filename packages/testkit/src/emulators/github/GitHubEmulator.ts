/**
 * GitHub on this machine: its REST API and git over HTTP, over real repositories in a temporary directory. It knows one
 * organization and one user of its own, whose token may do everything.
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
  /** The organization's name. */
  readonly organization?: string
  /** Whom `token` stands for. */
  readonly user?: string
  readonly token?: string
  /** Entries of a recursive tree beyond which it is truncated; GitHub's own is 100,000. */
  readonly treeLimit?: number
  /** The same of a tree that is not recursive. */
  readonly directoryLimit?: number
  /** Bytes of a file beyond which it is not served; GitHub's own is 100 MB. */
  readonly blobLimit?: number
  /** The branch that new repositories are said to begin with. */
  readonly branch?: string
}

export interface Emulator {
  /** Of pages and git: `<url>/<owner>/<name>.git`; with `/api/v3` behind it also of the REST API, as on an own server. */
  readonly url: string
  /** Of the REST API as on api.github.com: nothing before `/repos`. */
  readonly apiUrl: string
  readonly organization: string
  readonly user: string
  /** May do everything with the organization's and the user's repositories. */
  readonly token: string
  /** Lets another token in, of a user of its own, with a right to the organization's repositories. */
  readonly addToken: (token: string, right: Repositories.Right) => void
  readonly faults: Faults.Faults<Fault>
  /** Every request so far, in the order they came. */
  readonly requests: ReadonlyArray<Server.Recorded>
  readonly repositories: () => ReadonlyArray<{
    readonly owner: string
    readonly name: string
    readonly private: boolean
  }>
  /** The bare repository behind a name. */
  readonly repositoryDirectory: (owner: string, name: string) => string | undefined
  /** Gives a repository another name, as its owner may do at any time. */
  readonly rename: (owner: string, name: string, to: string) => void
  /** A repository that anyone may read, made if need be, of an owner that is made if need be; gives its directory. */
  readonly publish: (owner: string, name: string) => Promise<string>
  /** Lets nobody push to a branch. */
  readonly protect: (owner: string, name: string, branch: string) => Promise<void>
}

export class GitHubEmulator extends Context.Service<GitHubEmulator, Emulator>()(
  "testkit/emulators/github/GitHubEmulator"
) {}

/** An emulator of its own, gone with all its repositories when the scope closes. */
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
    const requests: Array<Server.Recorded> = []
    const site = {
      repositories,
      owners,
      treeLimit: options.treeLimit ?? 100_000,
      directoryLimit: options.directoryLimit ?? 100_000,
      blobLimit: options.blobLimit ?? 100 * 1024 * 1024,
      branch: options.branch ?? "main"
    }
    const server = yield* Effect.acquireRelease(
      Effect.promise(() => Server.listen({ site, identities, faults, requests })),
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
        await repositories.create(known ?? addUser(owner), name, false, site.branch)
        return find(owner, name).directory
      },
      protect: (owner, name, branch) => repositories.protect(find(owner, name), branch)
    }
  })

export const layer = (options: EmulatorOptions = {}): Layer.Layer<GitHubEmulator> =>
  Layer.effect(GitHubEmulator, start(options))
