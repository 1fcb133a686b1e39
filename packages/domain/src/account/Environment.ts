import { type DateTime, Option, Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import type { ReadAs } from "../repo/ReadAs.ts"
import type { HostSupport } from "../repo/RepoHost.ts"
import { Repo, RepoName } from "../repo/Repo.ts"
import * as RepoUrl from "../repo/RepoUrl.ts"
import { SnapshotId } from "../sandbox/Snapshot.ts"
import { RunId } from "../task/TaskRun.ts"

/** What an account's next sandbox begins with, and where its files are kept between sandboxes. */
export class Environment extends Schema.Class<Environment>("Environment")({
  account: AccountId,
  /** The saved snapshot; null where there is none. */
  snapshot: Schema.NullOr(SnapshotId),
  /** From when on the saved snapshot can't be booted from. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** The URL of its repository; null where there is none. */
  repo: Schema.NullOr(Schema.String),
  /** Whether a platform admin vouches that the account may use this repository, though it was not made for it. */
  granted: Schema.Boolean,
  /** The setup that began last; null where there was none. */
  setup: Schema.NullOr(RunId),
  createdAt: Schema.DateTimeUtc
}) {}

/** The saved snapshot, while it can be booted from. At the very moment it expires it can't. */
export const bootable = (environment: Environment, now: DateTime.Utc): Option.Option<SnapshotId> =>
  environment.snapshot !== null &&
  (environment.expiresAt === null || environment.expiresAt.epochMilliseconds > now.epochMilliseconds)
    ? Option.some(environment.snapshot)
    : Option.none()

/** Characters of an account's name that its repository's name takes over. */
const nameTaken = 40

/** The repository that is made for an account: its name, for people, and its id, for uniqueness. */
export const repoFor = (host: HostSupport, account: { readonly id: AccountId; readonly name: string | null }): Repo => {
  const readable = (account.name ?? "")
    .normalize("NFKD")
    .replaceAll(/\p{M}+/gu, "")
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, nameTaken)
    .replaceAll(/^-+|-+$/g, "")
  const name = readable === "" ? `account-${account.id}` : `${readable}-${account.id}`
  return new Repo({ owner: host.owner, name: RepoName.make(name.toLowerCase()) })
}

/** Whether the repository was made for the account: then it is its own to read, to write and to delete. */
export const isOwn = (host: HostSupport, account: AccountId, repo: Repo): boolean =>
  repo.owner.toLowerCase() === host.owner.toLowerCase() && repo.name.toLowerCase().endsWith(`-${account.toLowerCase()}`)

/**
 * The environment's repository, if the service's credentials may be used for it: it was made for the account, or a
 * platform admin vouched for it. An account that merely names a repository gets nothing out of it.
 */
export const usable = (host: HostSupport, environment: Environment): Option.Option<Repo> =>
  Option.filter(
    environment.repo === null ? Option.none() : RepoUrl.at(host, environment.repo),
    (repo) => environment.granted || isOwn(host, environment.account, repo)
  )

/** Where an environment's repository is read, and in whose right; none where it can't be read. */
export interface ReadableRepo {
  readonly repo: Repo
  readonly readAs: ReadAs
}

/**
 * The environment's repository as its account may read it: with the service's credentials if they may be used for it, and
 * otherwise as anyone reads it.
 */
export const readable = (host: HostSupport, environment: Environment): Option.Option<ReadableRepo> =>
  Option.orElse(
    Option.map(usable(host, environment), (repo): ReadableRepo => ({ repo, readAs: "service" })),
    () =>
      Option.map(
        environment.repo === null ? Option.none() : RepoUrl.parse(host.publicUrl, environment.repo),
        (repo): ReadableRepo => ({ repo, readAs: "anonymous" })
      )
  )
