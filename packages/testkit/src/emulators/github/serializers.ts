/** The JSON of GitHub's responses, typed by its published OpenAPI description. */
import type { components } from "@octokit/openapi-types"
import type { Entry } from "./Objects.ts"
import { type Identity, type RepositoryModel, may, type Owner } from "./Repositories.ts"

type Schemas = components["schemas"]

/** The base URLs of pages and git, and of the REST API as the request used it. */
export interface Bases {
  readonly url: string
  readonly api: string
}

const nodeId = (kind: string, id: number | string) => Buffer.from(`${kind}:${id}`).toString("base64url")

/** Properties whose values are the base URL and a suffix. */
const urls = <K extends string>(base: string, suffixes: Record<K, string>): Record<K, string> =>
  Object.fromEntries(Object.entries<string>(suffixes).map(([key, suffix]) => [key, base + suffix])) as Record<K, string>

export const user = ({ api, url }: Bases, owner: Owner): Schemas["simple-user"] => ({
  login: owner.login,
  id: owner.id,
  node_id: nodeId(owner.type, owner.id),
  avatar_url: `${url}/avatars/u/${owner.id}`,
  gravatar_id: "",
  html_url: `${url}/${owner.login}`,
  type: owner.type,
  site_admin: false,
  ...urls(`${api}/users/${owner.login}`, {
    url: "",
    followers_url: "/followers",
    following_url: "/following{/other_user}",
    gists_url: "/gists{/gist_id}",
    starred_url: "/starred{/owner}{/repo}",
    subscriptions_url: "/subscriptions",
    organizations_url: "/orgs",
    repos_url: "/repos",
    events_url: "/events{/privacy}",
    received_events_url: "/received_events"
  })
})

export const publicUser = (bases: Bases, owner: Owner): Schemas["public-user"] => ({
  ...user(bases, owner),
  name: null,
  company: null,
  blog: "",
  location: null,
  email: null,
  hireable: null,
  bio: null,
  public_repos: 0,
  public_gists: 0,
  followers: 0,
  following: 0,
  created_at: "2024-01-01T00:00:00Z",
  updated_at: "2024-01-01T00:00:00Z"
})

export const repository = (
  bases: Bases,
  one: RepositoryModel,
  defaultBranch: string,
  identity: Identity | undefined
): Schemas["full-repository"] => {
  const path = `${one.owner.login}/${one.name}`
  const page = `${bases.url}/${path}`
  const owner = user(bases, one.owner)
  const { host } = new URL(bases.url)
  return {
    id: one.id,
    node_id: nodeId("Repository", one.id),
    name: one.name,
    full_name: path,
    private: one.private,
    owner,
    html_url: page,
    description: null,
    fork: false,
    git_url: `git://${host}/${path}.git`,
    ssh_url: `git@${host}:${path}.git`,
    clone_url: `${page}.git`,
    svn_url: page,
    homepage: null,
    language: null,
    mirror_url: null,
    license: null,
    default_branch: defaultBranch,
    visibility: one.private ? "private" : "public",
    size: 0,
    forks: 0,
    forks_count: 0,
    stargazers_count: 0,
    subscribers_count: 0,
    network_count: 0,
    watchers: 0,
    watchers_count: 0,
    open_issues: 0,
    open_issues_count: 0,
    topics: [],
    is_template: false,
    has_issues: true,
    has_projects: true,
    has_wiki: true,
    has_pages: false,
    has_discussions: false,
    archived: false,
    disabled: false,
    created_at: one.createdAt,
    updated_at: one.pushedAt,
    pushed_at: one.pushedAt,
    ...(identity === undefined
      ? {}
      : {
          permissions: {
            admin: may(identity, one, "admin"),
            maintain: may(identity, one, "admin"),
            push: may(identity, one, "write"),
            triage: may(identity, one, "write"),
            pull: true
          }
        }),
    ...(one.owner.type === "Organization" ? { organization: owner } : {}),
    ...urls(`${bases.api}/repos/${path}`, {
      url: "",
      archive_url: "/{archive_format}{/ref}",
      assignees_url: "/assignees{/user}",
      blobs_url: "/git/blobs{/sha}",
      branches_url: "/branches{/branch}",
      collaborators_url: "/collaborators{/collaborator}",
      comments_url: "/comments{/number}",
      commits_url: "/commits{/sha}",
      compare_url: "/compare/{base}...{head}",
      contents_url: "/contents/{+path}",
      contributors_url: "/contributors",
      deployments_url: "/deployments",
      downloads_url: "/downloads",
      events_url: "/events",
      forks_url: "/forks",
      git_commits_url: "/git/commits{/sha}",
      git_refs_url: "/git/refs{/sha}",
      git_tags_url: "/git/tags{/sha}",
      hooks_url: "/hooks",
      issue_comment_url: "/issues/comments{/number}",
      issue_events_url: "/issues/events{/number}",
      issues_url: "/issues{/number}",
      keys_url: "/keys{/key_id}",
      labels_url: "/labels{/name}",
      languages_url: "/languages",
      merges_url: "/merges",
      milestones_url: "/milestones{/number}",
      notifications_url: "/notifications{?since,all,participating}",
      pulls_url: "/pulls{/number}",
      releases_url: "/releases{/id}",
      stargazers_url: "/stargazers",
      statuses_url: "/statuses/{sha}",
      subscribers_url: "/subscribers",
      subscription_url: "/subscription",
      tags_url: "/tags",
      teams_url: "/teams",
      trees_url: "/git/trees{/sha}"
    })
  }
}

const apiOf = ({ api }: Bases, one: RepositoryModel) => `${api}/repos/${one.owner.login}/${one.name}`

export const tree = (
  bases: Bases,
  one: RepositoryModel,
  sha: string,
  entries: ReadonlyArray<Entry>,
  truncated: boolean
): Schemas["git-tree"] => ({
  sha,
  url: `${apiOf(bases, one)}/git/trees/${sha}`,
  tree: entries.map(({ mode, path, sha, size, type }) => ({
    path,
    mode,
    type,
    sha,
    ...(size === undefined ? {} : { size }),
    // A submodule's commit is in another repository.
    ...(type === "commit" ? {} : { url: `${apiOf(bases, one)}/git/${type}s/${sha}` })
  })),
  truncated
})

export const blob = (bases: Bases, one: RepositoryModel, sha: string, content: Buffer): Schemas["blob"] => ({
  sha,
  node_id: nodeId("Blob", sha),
  size: content.length,
  url: `${apiOf(bases, one)}/git/blobs/${sha}`,
  content: lined(content),
  encoding: "base64"
})

/** Base64 in lines of 60 characters, as at GitHub. */
const lined = (content: Buffer) => content.toString("base64").replace(/.{1,60}/g, "$&\n")

/** The fields of all kinds of content. */
const content = (bases: Bases, one: RepositoryModel, branch: string, { path, sha, size, type }: Entry) => {
  const self = `${apiOf(bases, one)}/contents/${path.split("/").map(encodeURIComponent).join("/")}?ref=${branch}`
  const git = type === "commit" ? null : `${apiOf(bases, one)}/git/${type}s/${sha}`
  const html = `${bases.url}/${one.owner.login}/${one.name}/${type}/${branch}/${path}`
  return {
    name: path.slice(path.lastIndexOf("/") + 1),
    path,
    sha,
    size: size ?? 0,
    url: self,
    git_url: git,
    html_url: html,
    download_url: type === "blob" ? `${bases.url}/raw/${one.owner.login}/${one.name}/${branch}/${path}` : null,
    _links: { self, git, html }
  }
}

/** GitHub omits larger contents unless the client accepts the raw media type. */
const withContent = 1024 * 1024

export const file = (
  bases: Bases,
  one: RepositoryModel,
  branch: string,
  entry: Entry,
  bytes: Buffer
): Schemas["content-file"] => {
  const isSmall = bytes.length <= withContent
  return {
    ...content(bases, one, branch, entry),
    type: "file",
    content: isSmall ? lined(bytes) : "",
    encoding: isSmall ? "base64" : "none"
  }
}

export const symlink = (
  bases: Bases,
  one: RepositoryModel,
  branch: string,
  entry: Entry,
  target: string
): Schemas["content-symlink"] => ({ ...content(bases, one, branch, entry), type: "symlink", target })

export const submodule = (
  bases: Bases,
  one: RepositoryModel,
  branch: string,
  entry: Entry
): Schemas["content-submodule"] => ({
  ...content(bases, one, branch, entry),
  type: "submodule",
  submodule_git_url: `${bases.url}/elsewhere/${entry.path}.git`
})

export const directory = (
  bases: Bases,
  one: RepositoryModel,
  branch: string,
  entries: ReadonlyArray<Entry>
): Schemas["content-directory"] =>
  entries.map((entry) => ({
    ...content(bases, one, branch, entry),
    // GitHub lists a submodule as a file, for compatibility.
    type: entry.type === "tree" ? "dir" : entry.mode === "120000" ? "symlink" : "file"
  }))

export const branch = (bases: Bases, one: RepositoryModel, name: string, sha: string): Schemas["short-branch"] => ({
  name,
  commit: { sha, url: `${apiOf(bases, one)}/commits/${sha}` },
  protected: false
})

export const commit = (
  bases: Bases,
  one: RepositoryModel,
  sha: string,
  read: {
    readonly tree: string
    readonly parents: ReadonlyArray<string>
    readonly author: Schemas["git-user"]
    readonly committer: Schemas["git-user"]
    readonly message: string
  }
): Schemas["commit"] => {
  const api = apiOf(bases, one)
  const page = `${bases.url}/${one.owner.login}/${one.name}/commit`
  return {
    sha,
    node_id: nodeId("Commit", sha),
    url: `${api}/commits/${sha}`,
    html_url: `${page}/${sha}`,
    comments_url: `${api}/commits/${sha}/comments`,
    commit: {
      url: `${api}/git/commits/${sha}`,
      author: read.author,
      committer: read.committer,
      message: read.message,
      comment_count: 0,
      tree: { sha: read.tree, url: `${api}/git/trees/${read.tree}` },
      verification: { verified: false, reason: "unsigned", payload: null, signature: null, verified_at: null }
    },
    author: null,
    committer: null,
    parents: read.parents.map((parent) => ({
      sha: parent,
      url: `${api}/commits/${parent}`,
      html_url: `${page}/${parent}`
    }))
  }
}

const documentation = "https://docs.github.com/rest"

export const error = (status: number, message: string, at = ""): Schemas["basic-error"] => ({
  message,
  documentation_url: `${documentation}${at}`,
  status: String(status)
})

export const invalid = (
  message: string,
  errors: NonNullable<Schemas["validation-error"]["errors"]>
): Schemas["validation-error"] & { readonly status: string } => ({
  message,
  errors,
  documentation_url: `${documentation}/repos/repos#create-an-organization-repository`,
  status: "422"
})
