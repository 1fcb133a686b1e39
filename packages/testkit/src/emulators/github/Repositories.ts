/** The bare repositories of the emulator, with their owners. */
import { appendFile, chmod, mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import * as Git from "./Git.ts"

export interface Owner {
  readonly id: number
  readonly login: string
  readonly type: "Organization" | "User"
}

export type Right = "admin" | "read" | "write"

/** The user of a token, and its right to the organization's repositories. */
export interface Identity {
  readonly user: Owner
  readonly right: Right
}

export interface RepositoryModel {
  readonly id: number
  readonly owner: Owner
  name: string
  readonly private: boolean
  readonly createdAt: string
  pushedAt: string
  readonly directory: string
}

const now = () => new Date().toISOString().replace(/\.\d+Z$/, "Z")

const keyOf = (owner: string, name: string) => `${owner}/${name}`.toLowerCase()

const initialize = async (directory: string, branch: string) => {
  await mkdir(directory)
  await Git.text(directory, "init", "--bare", "--quiet", `--initial-branch=${branch}`)
  const settings = "[http]\n\treceivepack = true\n[uploadpack]\n\tallowFilter = true\n\tallowAnySHA1InWant = true\n"
  await appendFile(join(directory, "config"), settings)
}

export const make = (root: string) => {
  const repositories = new Map<string, RepositoryModel>()
  const moved = new Map<string, RepositoryModel>()
  const making = new Map<string, Promise<void>>()
  let ids = 1296269

  return {
    all: () => Array.from(repositories.values()),

    find: (owner: string, name: string) => repositories.get(keyOf(owner, name)),

    /** The repository that had this name before it was renamed. */
    movedTo: (owner: string, name: string) => moved.get(keyOf(owner, name)),

    byId: (id: number) => Array.from(repositories.values()).find((one) => one.id === id),

    /** Creates a repository; undefined if the name is taken, also by a concurrent create. */
    create: async (owner: Owner, name: string, isPrivate: boolean, branch: string) => {
      const key = keyOf(owner.login, name)
      await making.get(key)
      if (repositories.has(key) || making.has(key)) return undefined
      const id = ids++
      const directory = join(root, `${id}.git`)
      const made: RepositoryModel = {
        id,
        owner,
        name,
        private: isPrivate,
        createdAt: now(),
        pushedAt: now(),
        directory
      }
      const done = initialize(directory, branch)
      making.set(key, done)
      await done
      making.delete(key)
      moved.delete(key)
      repositories.set(key, made)
      return made
    },

    remove: async (one: RepositoryModel) => {
      repositories.delete(keyOf(one.owner.login, one.name))
      await rm(one.directory, { recursive: true, force: true })
    },

    /** Renames a repository; requests for the old name are redirected. */
    rename: (one: RepositoryModel, name: string) => {
      repositories.delete(keyOf(one.owner.login, one.name))
      moved.set(keyOf(one.owner.login, one.name), one)
      one.name = name
      repositories.set(keyOf(one.owner.login, name), one)
    },

    /** Rejects every push to the branch. */
    protect: async (one: RepositoryModel, branch: string) => {
      const hook = join(one.directory, "hooks", "update")
      await mkdir(join(one.directory, "hooks"), { recursive: true })
      await writeFile(
        hook,
        `#!/bin/sh\n[ "$1" != "refs/heads/${branch}" ] || { echo "GH006: Protected branch update failed" >&2; exit 1; }\n`
      )
      await chmod(hook, 0o755)
    },

    /** Makes the pushed branch the default if the default branch has no commit. */
    pushed: async (one: RepositoryModel) => {
      one.pushedAt = now()
      if ((await Git.text(one.directory, "rev-parse", "--verify", "--quiet", "HEAD")) !== undefined) return
      const first = await Git.text(one.directory, "for-each-ref", "--count=1", "--format=%(refname)", "refs/heads")
      if (first !== undefined && first !== "") await Git.text(one.directory, "symbolic-ref", "HEAD", first)
    }
  }
}

export type Repositories = ReturnType<typeof make>

const rights: ReadonlyArray<Right> = ["read", "write", "admin"]

/** Whether an identity, or an anonymous client, has at least this right to a repository. */
export const may = (identity: Identity | undefined, one: RepositoryModel, right: Right): boolean => {
  if (right === "read" && !one.private) return true
  if (identity === undefined) return false
  if (one.owner.id === identity.user.id) return true
  return one.owner.type === "Organization" && rights.indexOf(identity.right) >= rights.indexOf(right)
}
