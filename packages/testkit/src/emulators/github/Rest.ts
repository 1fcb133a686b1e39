/** GitHub's REST API for repositories and their contents. */
import { Option, Schema } from "effect"
import * as FindMyWay from "effect/http/FindMyWay"
import { type Response, json } from "./responses.ts"
import * as serializers from "./serializers.ts"
import * as Objects from "./Objects.ts"
import { type Identity, type RepositoryModel, may, type Owner, type Repositories } from "./Repositories.ts"

export interface EmulatorRequest {
  readonly method: string
  /** Without the prefix `/api/v3` and the query, percent-encoded. */
  readonly path: string
  readonly query: URLSearchParams
  readonly accept: string
  readonly body: Buffer
  readonly identity: Identity | undefined
  readonly bases: serializers.Bases
}

export interface EmulatorState {
  readonly repositories: Repositories
  readonly owners: ReadonlyArray<Owner>
  /** The most entries of a recursive tree before it is truncated; `directoryLimit` is for other trees. */
  readonly treeLimit: number
  readonly directoryLimit: number
  /** The most bytes of a blob that is served. */
  readonly blobLimit: number
  /** The default branch of new repositories. */
  readonly branch: string
}

const nothing: Response = { status: 204, type: "", body: Buffer.alloc(0), headers: {} }

const raw = (body: Buffer): Response => ({
  status: 200,
  type: "application/vnd.github.raw+json; charset=utf-8",
  body,
  headers: { "x-github-media-type": "github.v3; param=raw; format=json" }
})

const error = (status: number, message: string, at?: string) => json(status, serializers.error(status, message, at))
const notFound = (at?: string) => error(404, "Not Found", at)

const tooLarge = json(403, {
  ...serializers.invalid(
    "This API returns blobs up to 100 MB in size. The requested blob is too large to fetch via the API, but you can always clone the repository via Git in order to obtain it.",
    [{ resource: "Blob", field: "data", code: "too_large" }]
  ),
  status: "403"
})

const wantsRaw = ({ accept }: EmulatorRequest) => /application\/vnd\.github\.(?:v3\.)?raw/.test(accept)

const JsonObject = Schema.fromJsonString(Schema.Record(Schema.String, Schema.Unknown))

const creationFailed = (message: string) =>
  json(
    422,
    serializers.invalid("Repository creation failed.", [
      { resource: "Repository", code: "custom", field: "name", message }
    ])
  )

/** Creates a repository, as `POST /orgs/{org}/repos` and `POST /user/repos` do. */
const create = async (state: EmulatorState, request: EmulatorRequest, owner: Owner): Promise<Response> => {
  const body = Schema.decodeUnknownOption(JsonObject)(request.body.toString("utf8"))
  if (Option.isNone(body)) return error(400, "Problems parsing JSON")
  const { name, private: isPrivate, visibility } = body.value
  if (typeof name !== "string" || !/^[A-Za-z0-9_.-]{1,100}$/.test(name)) {
    return creationFailed("name is invalid")
  }
  const isHidden = isPrivate === true || visibility === "private"
  const repository = await state.repositories.create(owner, name, isHidden, state.branch)
  if (repository === undefined) return creationFailed("name already exists on this account")
  const created = serializers.repository(request.bases, repository, state.branch, request.identity)
  return json(201, created, { location: created.url })
}

const show = async (_: EmulatorState, request: EmulatorRequest, one: RepositoryModel) =>
  json(200, serializers.repository(request.bases, one, await Objects.defaultBranch(one.directory), request.identity))

const remove = async (state: EmulatorState, request: EmulatorRequest, one: RepositoryModel) => {
  if (!may(request.identity, one, "admin")) {
    return error(403, "Must have admin rights to Repository.", "/repos/repos#delete-a-repository")
  }
  await state.repositories.remove(one)
  return nothing
}

/** The error for a missing object, which differs for an empty repository. */
const missing = async (one: RepositoryModel, otherwise: Response) =>
  (await Objects.isEmpty(one.directory)) ? error(409, "Git Repository is empty.") : otherwise

const trees = async (state: EmulatorState, request: EmulatorRequest, one: RepositoryModel, ref: string) => {
  const at = "/git/trees#get-a-tree"
  const sha = await Objects.resolve(one.directory, ref, "tree")
  if (sha === undefined) return missing(one, notFound(at))
  // Any value enables it, even `0` and `false`.
  const recursive = request.query.has("recursive")
  const limit = recursive ? state.treeLimit : state.directoryLimit
  const entries = await Objects.list(one.directory, sha, recursive, limit + 1)
  return json(200, serializers.tree(request.bases, one, sha, entries.slice(0, limit), entries.length > limit))
}

const contents = async (state: EmulatorState, request: EmulatorRequest, one: RepositoryModel, path: string) => {
  const at = "/repos/contents#get-repository-content"
  const branch = request.query.get("ref") ?? (await Objects.defaultBranch(one.directory))
  const root = await Objects.resolve(one.directory, branch, "tree")
  if (root === undefined) {
    const isEmpty = await Objects.isEmpty(one.directory)
    return error(404, isEmpty ? "This repository is empty." : `No commit found for the ref ${branch}`, at)
  }
  if (path === "") {
    return json(200, serializers.directory(request.bases, one, branch, await Objects.list(one.directory, root, false)))
  }
  const entry = await Objects.entryAt(one.directory, root, path)
  if (entry === undefined) return notFound(at)
  if (entry.type === "commit") return json(200, serializers.submodule(request.bases, one, branch, entry))
  if (entry.type === "tree") {
    const inside = await Objects.list(one.directory, entry.sha, false)
    const entries = inside.map((child) => ({ ...child, path: `${path}/${child.path}` }))
    return json(200, serializers.directory(request.bases, one, branch, entries.slice(0, 1000)))
  }
  if (entry.mode === "120000") {
    const { file, target } = await Objects.targetOf(one.directory, root, entry)
    if (file === undefined) return json(200, serializers.symlink(request.bases, one, branch, entry, target))
    return wantsRaw(request)
      ? raw(await Objects.blob(one.directory, file.sha))
      : json(200, serializers.file(request.bases, one, branch, entry, await Objects.blob(one.directory, file.sha)))
  }
  if ((entry.size ?? 0) > state.blobLimit) return tooLarge
  const bytes = await Objects.blob(one.directory, entry.sha)
  return wantsRaw(request) ? raw(bytes) : json(200, serializers.file(request.bases, one, branch, entry, bytes))
}

const blobs = async (state: EmulatorState, request: EmulatorRequest, one: RepositoryModel, sha: string) => {
  const at = "/git/blobs#get-a-blob"
  const found = /^[0-9a-f]{40,64}$/.test(sha) ? await Objects.resolve(one.directory, sha, "blob") : undefined
  if (found === undefined) return missing(one, notFound(at))
  const bytes = await Objects.blob(one.directory, found)
  if (bytes.length > state.blobLimit) return tooLarge
  return wantsRaw(request) ? raw(bytes) : json(200, serializers.blob(request.bases, one, found, bytes))
}

const commits = async (
  _: EmulatorState,
  request: EmulatorRequest,
  one: RepositoryModel,
  ref: string
): Promise<Response> => {
  const at = "/commits/commits#get-a-commit"
  const sha = await Objects.resolve(one.directory, ref, "commit")
  if (sha === undefined) return missing(one, error(422, `No commit found for SHA: ${ref}`, at))
  const body = serializers.commit(request.bases, one, sha, await Objects.commit(one.directory, sha))
  return json(200, body)
}

const branches = async (_: EmulatorState, request: EmulatorRequest, one: RepositoryModel) => {
  const all = await Objects.branches(one.directory)
  const count = Math.min(100, Number(request.query.get("per_page") ?? 30))
  return json(
    200,
    all.slice(0, count).map(({ name, sha }) => serializers.branch(request.bases, one, name, sha))
  )
}

/** The redirect to a renamed repository. */
const moved = ({ bases, method }: EmulatorRequest, one: RepositoryModel, rest: string) => {
  const url = `${bases.api}/repositories/${one.id}${rest}`
  const status = method === "GET" ? 301 : 307
  const body = { message: "Moved Permanently", url, documentation_url: "https://docs.github.com/rest" }
  return json(status, body, { location: url })
}

type Reply = Response | Promise<Response>
type Params = Readonly<Record<string, string | undefined>>
type Handler = (state: EmulatorState, request: EmulatorRequest, params: Params) => Reply
type RepositoryHandler = (
  state: EmulatorState,
  request: EmulatorRequest,
  repository: RepositoryModel,
  path: string
) => Reply

/** A route of one repository, which is named by its owner and name, or by its id. */
const ofRepository =
  (handler: RepositoryHandler): Handler =>
  (state, request, { "*": path = "", id, name = "", owner = "" }) => {
    const { repositories } = state
    const repository = id === undefined ? repositories.find(owner, name) : repositories.byId(Number(id))
    const renamed = repository ?? repositories.movedTo(owner, name)
    if (renamed === undefined || !may(request.identity, renamed, "read")) {
      return notFound("/repos/repos#get-a-repository")
    }
    if (repository !== undefined) return handler(state, request, repository, path)
    return moved(request, renamed, request.path.replace(/^\/repos\/[^/]+\/[^/]+/, ""))
  }

const authenticated =
  (handler: (state: EmulatorState, request: EmulatorRequest, identity: Identity) => Reply): Handler =>
  (state, request) =>
    request.identity === undefined ? error(401, "Requires authentication") : handler(state, request, request.identity)

const ownerOf = ({ owners }: EmulatorState, login = "") =>
  owners.find((one) => one.login.toLowerCase() === login.toLowerCase())

const showUser: Handler = (state, { bases }, { login }) => {
  const user = ownerOf(state, login)
  return user === undefined ? notFound("/users/users#get-a-user") : json(200, serializers.publicUser(bases, user))
}

const createInOrganization: Handler = (state, request, { org }) => {
  const owner = ownerOf(state, org)
  if (owner?.type !== "Organization" || request.identity === undefined) {
    return notFound("/repos/repos#create-an-organization-repository")
  }
  return request.identity.right === "admin"
    ? create(state, request, owner)
    : error(403, "You need admin access to the organization before adding a repository to it.")
}

/** By method and path. A wildcard is a ref, an id or a path, which may contain slashes. */
const repositoryRoutes: ReadonlyArray<readonly [method: string, path: string, RepositoryHandler]> = [
  ["GET", "", show],
  ["DELETE", "", remove],
  ["GET", "/branches", branches],
  ["GET", "/git/trees/*", trees],
  ["GET", "/git/blobs/*", blobs],
  ["GET", "/commits/*", commits],
  ["GET", "/contents", contents],
  ["GET", "/contents/*", contents]
]

const router = FindMyWay.make<Handler>()
for (const [method, path, handler] of repositoryRoutes) {
  router.on(method, `/repos/:owner/:name${path}`, ofRepository(handler))
  router.on(method, `/repositories/:id${path}`, ofRepository(handler))
}
router.on("GET", "/users/:login", showUser)
router.on("POST", "/orgs/:org/repos", createInOrganization)
router.on(
  "GET",
  "/user",
  authenticated((_, { bases }, { user }) => json(200, serializers.publicUser(bases, user)))
)
router.on(
  "POST",
  "/user/repos",
  authenticated((state, request, { user }) => create(state, request, user))
)

/** Handles a request of the REST API. */
export const handle = (state: EmulatorState, request: EmulatorRequest): Reply => {
  const found = router.find(request.method, request.path)
  return found === undefined ? notFound() : found.handler(state, request, found.params)
}
