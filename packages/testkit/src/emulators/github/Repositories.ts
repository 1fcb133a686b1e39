/** Bare repositories in a directory, and whose they are. */
import { appendFile, chmod, mkdir, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import * as Git from "./Git.ts"

export interface Owner {
  readonly id: number
  readonly login: string
  readonly type: "Organization" | "User"
}

export type Right = "admin" | "read" | "write"

/** Whom a token stands for, and what it may do with the organization's repositories. */
export interface Identity {
  readonly user: Owner
  readonly right: Right
}

export interface Kept {
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
  const repositories = new Map<string, Kept>()
  const moved = new Map<string, Kept>()
  const making = new Map<string, Promise<void>>()
  let ids = 1296269

  return {
    all: () => Array.from(repositories.values()),

    find: (owner: string, name: string) => repositories.get(keyOf(owner, name)),

    /** The repository that bore the name before. */
    movedTo: (owner: string, name: string) => moved.get(keyOf(owner, name)),

    byId: (id: number) => Array.from(repositories.values()).find((one) => one.id === id),

    /** Undefined where the name is taken, also by one who is still at it. */
    create: async (owner: Owner, name: string, isPrivate: boolean, branch: string) => {
      const key = keyOf(owner.login, name)
      await making.get(key)
      if (repositories.has(key) || making.has(key)) return undefined
      const id = ids++
      const directory = join(root, `${id}.git`)
      const made: Kept = { id, owner, name, private: isPrivate, createdAt: now(), pushedAt: now(), directory }
      const done = initialize(directory, branch)
      making.set(key, done)
      await done
      making.delete(key)
      moved.delete(key)
      repositories.set(key, made)
      return made
    },

    remove: async (one: Kept) => {
      repositories.delete(keyOf(one.owner.login, one.name))
      await rm(one.directory, { recursive: true, force: true })
    },

    /** Gives it another name; who asks for the old one is told where it went. */
    rename: (one: Kept, name: string) => {
      repositories.delete(keyOf(one.owner.login, one.name))
      moved.set(keyOf(one.owner.login, one.name), one)
      one.name = name
      repositories.set(keyOf(one.owner.login, name), one)
    },

    /** Nobody may push to the branch. */
    protect: async (one: Kept, branch: string) => {
      const hook = join(one.directory, "hooks", "update")
      await mkdir(join(one.directory, "hooks"), { recursive: true })
      await writeFile(
        hook,
        `#!/bin/sh\n[ "$1" != "refs/heads/${branch}" ] || { echo "GH006: Protected branch update failed" >&2; exit 1; }\n`
      )
      await chmod(hook, 0o755)
    },

    /** The first branch that is pushed becomes the default one, where that has no commit. */
    pushed: async (one: Kept) => {
      one.pushedAt = now()
      if ((await Git.text(one.directory, "rev-parse", "--verify", "--quiet", "HEAD")) !== undefined) return
      const first = await Git.text(one.directory, "for-each-ref", "--count=1", "--format=%(refname)", "refs/heads")
      if (first !== undefined && first !== "") await Git.text(one.directory, "symbolic-ref", "HEAD", first)
    }
  }
}

export type Repositories = ReturnType<typeof make>

const rights: ReadonlyArray<Right> = ["read", "write", "admin"]

/** Whether an identity, or nobody, has at least the right to a repository. */
export const may = (identity: Identity | undefined, one: Kept, right: Right): boolean => {
  if (right === "read" && !one.private) return true
  if (identity === undefined) return false
  if (one.owner.id === identity.user.id) return true
  return one.owner.type === "Organization" && rights.indexOf(identity.right) >= rights.indexOf(right)
}
