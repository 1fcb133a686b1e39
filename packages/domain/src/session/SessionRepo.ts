import { Effect, Option } from "effect"
import type { AccountId } from "../identity/Account.ts"
import { AccountScope } from "../identity/AccountScope.ts"
import type { IdentityStore } from "../identity/IdentityStore.ts"
import type { ReadAs } from "../repo/ReadAs.ts"
import type { HostSupport } from "../repo/RepoHost.ts"
import { Repo } from "../repo/Repo.ts"
import * as RepoUrl from "../repo/RepoUrl.ts"

/** A repository that a session may work on, and in whose right it is read. */
export interface SessionRepo {
  readonly repo: Repo
  readonly readAs: ReadAs
  /** Where it is, without credentials. */
  readonly url: string
}

/** Which repositories of the service's owner a session may read with the service's right. */
export type RepoAccess =
  /** Those that were made for its account or organization, and those that were made for nobody. */
  | "owner"
  /** Only those that were made for its account or organization. */
  | "own"

/** Whose repositories a session may read: its account's, and its organization's while that account is a member of it. */
export const holdersOf = Effect.fnUntraced(function* (
  identities: IdentityStore["Service"],
  { account, organization }: { readonly account: AccountId; readonly organization: AccountId | null }
) {
  if (organization === null) return [account]
  const membership = yield* identities.findMembership(AccountScope.ofOwner({ account }), organization)
  return Option.exists(membership, ({ status }) => status === "active") ? [account, organization] : [account]
})

const madeFor =
  /-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$|^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/i

/** The account that the repository's name says it was made for. */
const accountIn = (repo: Repo): string | undefined => {
  const match = madeFor.exec(repo.name)
  return (match?.[1] ?? match?.[2])?.toLowerCase()
}

/**
 * The repository a URL names. With the service's right only what is the service's own to read, and nobody else's; every
 * other one as anyone reads it.
 */
export const resolve = (
  host: HostSupport,
  access: RepoAccess,
  url: string,
  mine: ReadonlyArray<AccountId>
): Option.Option<SessionRepo> => {
  const atHost = RepoUrl.at(host, url)
  const atPublic = RepoUrl.parse(host.publicUrl, url)
  if (Option.isNone(atHost)) {
    return Option.map(atPublic, (repo) => ({
      repo,
      readAs: "anonymous" as const,
      url: RepoUrl.urlOf(host.publicUrl, repo)
    }))
  }
  const repo = atHost.value
  const isOwners = repo.owner.toLowerCase() === host.owner.toLowerCase()
  const account = accountIn(repo)
  const isMine = account !== undefined && mine.some((id) => id.toLowerCase() === account)
  const mayServe = isOwners && (isMine || (account === undefined && access === "owner"))
  if (!mayServe && Option.isNone(atPublic)) return Option.none()
  return Option.some({ repo, readAs: mayServe ? "service" : "anonymous", url: RepoUrl.urlOf(host.url, repo) })
}
