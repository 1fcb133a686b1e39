/** Which repositories a session may work on, and with whose credentials they are read. */
import { Effect, Option } from "effect"
import type { AccountId } from "../identity/Account.ts"
import { AccountScope } from "../identity/AccountScope.ts"
import type { IdentityStore } from "../identity/IdentityStore.ts"
import type { ReadAs } from "../repo/ReadAs.ts"
import type { HostSupport } from "../repo/RepoHost.ts"
import { Repo } from "../repo/Repo.ts"
import * as RepoUrl from "../repo/RepoUrl.ts"

/** A repository that a session may work on. */
export interface SessionRepo {
  readonly repo: Repo
  readonly readAs: ReadAs
  /** Its URL, without credentials. */
  readonly url: string
}

/** Which repositories of the service's owner at the host a session may read with the service's credentials. */
export type RepoAccess =
  /** Those created for its account or organization, and those created for no account. */
  | "owner"
  /** Only those created for its account or organization. */
  | "own"

/** The accounts whose repositories a session may read: its own, and its organization while its account is a member. */
export const repoHoldersOf = Effect.fnUntraced(function* (
  identities: IdentityStore["Service"],
  { account, organization }: { readonly account: AccountId; readonly organization: AccountId | null }
) {
  if (organization === null) return [account]
  const membership = yield* identities.findMembership(AccountScope.ofOwner({ account }), organization)
  return Option.exists(membership, ({ status }) => status === "active") ? [account, organization] : [account]
})

const accountIdInName =
  /-([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$|^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})$/i

/** The account that a repository was created for, according to its name. */
const accountIn = (repo: Repo): string | undefined => {
  const match = accountIdInName.exec(repo.name)
  return (match?.[1] ?? match?.[2])?.toLowerCase()
}

/**
 * The repository that a URL names; none if a session of these accounts may not read it. The service's credentials read
 * only repositories that `RepoAccess` allows; other repositories are read anonymously.
 */
export const resolveRepo = (
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
