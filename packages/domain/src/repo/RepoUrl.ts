import { Option, Schema } from "effect"
import { Repo, RepoName, RepoOwner } from "./Repo.ts"
import type { HostSupport } from "./RepoHost.ts"

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

type Host = Pick<HostSupport, "formerUrl" | "url">

const formerly = ({ formerUrl }: Host, url: string): Option.Option<Repo> =>
  formerUrl === undefined ? Option.none() : parse(formerUrl, url)

/** The repository that a URL names at a host, also in the form that the host's URLs had in older versions. */
export const at = (host: Host, url: string): Option.Option<Repo> =>
  Option.orElse(parse(host.url, url), () => formerly(host, url))

/** A URL that may have the form of older versions, in the form that the host's URLs have now. */
export const current = (host: Host, url: string): string =>
  Option.match(formerly(host, url), { onNone: () => url, onSome: (repo) => urlOf(host.url, repo) })
