/** URLs of repositories. */
import { Option, Schema } from "effect"
import { Repo, RepoName, RepoOwner } from "./Repo.ts"
import type { HostSupport } from "./RepoHost.ts"

const isOwner = Schema.is(RepoOwner)
const isName = Schema.is(RepoName)

/** The URL of a repository's page, from which it can also be cloned: `<base>/<owner>/<name>`. */
export const urlOf = (base: string, repo: Repo): string => `${base}/${repo.owner}/${repo.name}`

/**
 * The repository of a URL `<base>/<owner>/<name>`, with or without `.git`. None for another scheme or host, credentials, a
 * query, or a longer path.
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

/** The repository of a URL at a host. Also accepts the form of URLs that earlier versions used. */
export const at = (host: Host, url: string): Option.Option<Repo> =>
  Option.orElse(parse(host.url, url), () => formerly(host, url))

/** Converts a URL of an earlier version to the current form; other URLs stay as they are. */
export const current = (host: Host, url: string): string =>
  Option.match(formerly(host, url), { onNone: () => url, onSome: (repo) => urlOf(host.url, repo) })
