/** GitHub's REST API, as far as repositories and what is in them go. */
import { type Answer, json } from "./Answers.ts"
import * as Bodies from "./Bodies.ts"
import * as Objects from "./Objects.ts"
import { type Identity, type Kept, may, type Owner, type Repositories } from "./Repositories.ts"

export interface Asked {
  readonly method: string
  /** Without `/api/v3` and the query; still encoded. */
  readonly path: string
  readonly query: URLSearchParams
  readonly accept: string
  readonly body: Buffer
  readonly identity: Identity | undefined
  readonly bases: Bodies.Bases
}

export interface Site {
  readonly repositories: Repositories
  readonly owners: ReadonlyArray<Owner>
  /** Entries of a recursive tree at most, beyond which it says `truncated`; of others `directoryLimit`. */
  readonly treeLimit: number
  readonly directoryLimit: number
  /** Bytes of a blob beyond which it is not served. */
  readonly blobLimit: number
  /** What a repository made here begins with. */
  readonly branch: string
}

const nothing: Answer = { status: 204, type: "", body: Buffer.alloc(0), headers: {} }

const raw = (body: Buffer): Answer => ({
  status: 200,
  type: "application/vnd.github.raw+json; charset=utf-8",
  body,
  headers: { "x-github-media-type": "github.v3; param=raw; format=json" }
})

const error = (status: number, message: string, at?: string) => json(status, Bodies.error(status, message, at))
const notFound = (at?: string) => error(404, "Not Found", at)

const tooLarge = json(403, {
  ...Bodies.invalid(
    "This API returns blobs up to 100 MB in size. The requested blob is too large to fetch via the API, but you can always clone the repository via Git in order to obtain it.",
    [{ resource: "Blob", field: "data", code: "too_large" }]
  ),
  status: "403"
})

const wantsRaw = ({ accept }: Asked) => /application\/vnd\.github\.(?:v3\.)?raw/.test(accept)

/** Makes a repository of the body's name, as `POST /orgs/{org}/repos` and `POST /user/repos` do. */
const create = async (site: Site, asked: Asked, owner: Owner): Promise<Answer> => {
  const wanted = parsed(asked.body)
  if (wanted === undefined) return error(400, "Problems parsing JSON")
  const { name, private: isPrivate, visibility } = wanted
  if (typeof name !== "string" || !/^[A-Za-z0-9_.-]{1,100}$/.test(name)) {
    const reason = { resource: "Repository", code: "custom", field: "name", message: "name is invalid" }
    return json(422, Bodies.invalid("Repository creation failed.", [reason]))
  }
  const made = await site.repositories.create(owner, name, isPrivate === true || visibility === "private", site.branch)
  if (made === undefined) {
    const reason = {
      resource: "Repository",
      code: "custom",
      field: "name",
      message: "name already exists on this account"
    }
    return json(422, Bodies.invalid("Repository creation failed.", [reason]))
  }
  const body = Bodies.repository(asked.bases, made, site.branch, asked.identity)
  return json(201, body, { location: body.url })
}

const parsed = (body: Buffer): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(body.toString("utf8"))
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

const show = async (asked: Asked, one: Kept) =>
  json(200, Bodies.repository(asked.bases, one, await Objects.defaultBranch(one.directory), asked.identity))

const remove = async (site: Site, asked: Asked, one: Kept) => {
  if (!may(asked.identity, one, "admin")) {
    return error(403, "Must have admin rights to Repository.", "/repos/repos#delete-a-repository")
  }
  await site.repositories.remove(one)
  return nothing
}

/** What is said of something that is not there, where there is anything at all. */
const missing = async (one: Kept, otherwise: Answer) =>
  (await Objects.isEmpty(one.directory)) ? error(409, "Git Repository is empty.") : otherwise

const trees = async (site: Site, asked: Asked, one: Kept, ref: string) => {
  const at = "/git/trees#get-a-tree"
  const sha = await Objects.resolve(one.directory, ref, "tree")
  if (sha === undefined) return missing(one, notFound(at))
  // Any value means yes, `0` and `false` too.
  const recursive = asked.query.has("recursive")
  const limit = recursive ? site.treeLimit : site.directoryLimit
  const entries = await Objects.list(one.directory, sha, recursive, limit + 1)
  return json(200, Bodies.tree(asked.bases, one, sha, entries.slice(0, limit), entries.length > limit))
}

const contents = async (site: Site, asked: Asked, one: Kept, path: string) => {
  const at = "/repos/contents#get-repository-content"
  const branch = asked.query.get("ref") ?? (await Objects.defaultBranch(one.directory))
  const root = await Objects.resolve(one.directory, branch, "tree")
  if (root === undefined) {
    const isEmpty = await Objects.isEmpty(one.directory)
    return error(404, isEmpty ? "This repository is empty." : `No commit found for the ref ${branch}`, at)
  }
  if (path === "") {
    return json(200, Bodies.directory(asked.bases, one, branch, await Objects.list(one.directory, root, false)))
  }
  const entry = await Objects.entryAt(one.directory, root, path)
  if (entry === undefined) return notFound(at)
  if (entry.type === "commit") return json(200, Bodies.submodule(asked.bases, one, branch, entry))
  if (entry.type === "tree") {
    const inside = await Objects.list(one.directory, entry.sha, false)
    const entries = inside.map((child) => ({ ...child, path: `${path}/${child.path}` }))
    return json(200, Bodies.directory(asked.bases, one, branch, entries.slice(0, 1000)))
  }
  if (entry.mode === "120000") {
    const { file, target } = await Objects.targetOf(one.directory, root, entry)
    if (file === undefined) return json(200, Bodies.symlink(asked.bases, one, branch, entry, target))
    return wantsRaw(asked)
      ? raw(await Objects.blob(one.directory, file.sha))
      : json(200, Bodies.file(asked.bases, one, branch, entry, await Objects.blob(one.directory, file.sha)))
  }
  if ((entry.size ?? 0) > site.blobLimit) return tooLarge
  const bytes = await Objects.blob(one.directory, entry.sha)
  return wantsRaw(asked) ? raw(bytes) : json(200, Bodies.file(asked.bases, one, branch, entry, bytes))
}

const blobs = async (site: Site, asked: Asked, one: Kept, sha: string) => {
  const at = "/git/blobs#get-a-blob"
  const found = /^[0-9a-f]{40,64}$/.test(sha) ? await Objects.resolve(one.directory, sha, "blob") : undefined
  if (found === undefined) return missing(one, notFound(at))
  const bytes = await Objects.blob(one.directory, found)
  if (bytes.length > site.blobLimit) return tooLarge
  return wantsRaw(asked) ? raw(bytes) : json(200, Bodies.blob(asked.bases, one, found, bytes))
}

const commits = async (asked: Asked, one: Kept, ref: string): Promise<Answer> => {
  const at = "/commits/commits#get-a-commit"
  const sha = await Objects.resolve(one.directory, ref, "commit")
  if (sha === undefined) return missing(one, error(422, `No commit found for SHA: ${ref}`, at))
  const body = Bodies.commit(asked.bases, one, sha, await Objects.commit(one.directory, sha))
  return json(200, body)
}

const branches = async (asked: Asked, one: Kept) => {
  const all = await Objects.branches(one.directory)
  const count = Math.min(100, Number(asked.query.get("per_page") ?? 30))
  return json(
    200,
    all.slice(0, count).map(({ name, sha }) => Bodies.branch(asked.bases, one, name, sha))
  )
}

/** What is said of a repository that goes by another name now. */
const moved = ({ bases, method }: Asked, one: Kept, rest: string) => {
  const url = `${bases.api}/repositories/${one.id}${rest}`
  const status = method === "GET" ? 301 : 307
  const body = { message: "Moved Permanently", url, documentation_url: "https://docs.github.com/rest" }
  return json(status, body, { location: url })
}

const withinRepository = async (site: Site, asked: Asked, one: Kept, rest: string): Promise<Answer> => {
  const at = "/repos/repos#get-a-repository"
  if (!may(asked.identity, one, "read")) return notFound(at)
  const get = asked.method === "GET"
  if (rest === "" && get) return show(asked, one)
  if (rest === "" && asked.method === "DELETE") return remove(site, asked, one)
  if (rest === "/branches" && get) return branches(asked, one)
  const [, kind, encoded = ""] = /^\/(git\/trees|git\/blobs|commits|contents)(?:\/(.*))?$/.exec(rest) ?? []
  if (kind === undefined || !get) return notFound()
  const name = decodeURIComponent(encoded)
  switch (kind) {
    case "git/trees":
      return trees(site, asked, one, name)
    case "git/blobs":
      return blobs(site, asked, one, name)
    case "commits":
      return commits(asked, one, name)
    default:
      return contents(site, asked, one, name)
  }
}

/** What GitHub answers. */
export const answer = async (site: Site, asked: Asked): Promise<Answer> => {
  const { bases, identity, method, path } = asked
  const [, owner, name, rest = ""] = /^\/repos\/([^/]+)\/([^/]+)(\/.*)?$/.exec(path) ?? []
  if (owner !== undefined && name !== undefined) {
    const one = site.repositories.find(owner, name)
    if (one !== undefined) return withinRepository(site, asked, one, rest)
    const other = site.repositories.movedTo(owner, name)
    if (other === undefined || !may(identity, other, "read")) return notFound("/repos/repos#get-a-repository")
    return moved(asked, other, rest)
  }
  const [, id, tail = ""] = /^\/repositories\/(\d+)(\/.*)?$/.exec(path) ?? []
  if (id !== undefined) {
    const one = site.repositories.byId(Number(id))
    return one === undefined ? notFound() : withinRepository(site, asked, one, tail)
  }
  const ownerOf = (login: string | undefined) =>
    site.owners.find((one) => one.login.toLowerCase() === login?.toLowerCase())
  const [, login] = /^\/users\/([^/]+)$/.exec(path) ?? []
  if (method === "GET" && login !== undefined) {
    const found = ownerOf(login)
    return found === undefined ? notFound("/users/users#get-a-user") : json(200, Bodies.publicUser(bases, found))
  }
  const [, org] = /^\/orgs\/([^/]+)\/repos$/.exec(path) ?? []
  if (method === "POST" && org !== undefined) {
    const found = ownerOf(org)
    if (found?.type !== "Organization" || identity === undefined) {
      return notFound("/repos/repos#create-an-organization-repository")
    }
    return identity.right === "admin"
      ? create(site, asked, found)
      : error(403, "You need admin access to the organization before adding a repository to it.")
  }
  if (path !== "/user" && path !== "/user/repos") return notFound()
  if (identity === undefined) return error(401, "Requires authentication")
  if (path === "/user" && method === "GET") return json(200, Bodies.publicUser(bases, identity.user))
  return path === "/user/repos" && method === "POST" ? create(site, asked, identity.user) : notFound()
}
