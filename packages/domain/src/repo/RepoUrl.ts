import { Option, Schema } from "effect"
import { Repo, RepoName, RepoOwner } from "./Repo.ts"

const isOwner = Schema.is(RepoOwner)
const isName = Schema.is(RepoName)

/** Where a repository is read by people, and cloned from: `<base>/<owner>/<name>`. */
export const urlOf = (base: string, repo: Repo): string => `${base}/${repo.owner}/${repo.name}`

/**
 * The repository that a URL names below `base`: `<base>/<owner>/<name>`, with `.git` or without. None for another
 * scheme or host, credentials, a query, or a longer path.
 */
export const parse = (base: string, url: string): Option.Option<Repo> => {
  if (!url.toLowerCase().startsWith(`${base.toLowerCase()}/`)) return Option.none()
  const [owner, name, ...more] = url.slice(base.length + 1).split("/")
  const bare = name?.replace(/\.git$/, "")
  return more.length === 0 && isOwner(owner) && isName(bare)
    ? Option.some(new Repo({ owner, name: bare }))
    : Option.none()
}
