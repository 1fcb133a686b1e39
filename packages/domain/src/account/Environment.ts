/** An account's environment, and which repositories the service's credentials may be used for. */
import { type DateTime, Option, Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import type { ReadAs } from "../repo/ReadAs.ts"
import type { HostSupport } from "../repo/RepoHost.ts"
import { Repo, RepoName } from "../repo/Repo.ts"
import * as RepoUrl from "../repo/RepoUrl.ts"
import { SnapshotId } from "../sandbox/Snapshot.ts"
import { RunId } from "../task/TaskRun.ts"

/** The repository and the saved snapshot of an account, from which its next sandbox starts. */
export class Environment extends Schema.Class<Environment>("Environment")({
  account: AccountId,
  /** The saved snapshot; null if there is none. */
  snapshot: Schema.NullOr(SnapshotId),
  /** When the saved snapshot expires; null if it does not. */
  expiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** The URL of the repository; null if there is none. */
  repo: Schema.NullOr(Schema.String),
  /** Whether a platform admin permitted the account to use this repository, which was not created for it. */
  granted: Schema.Boolean,
  /** The latest setup run; null if there was none. */
  setup: Schema.NullOr(RunId),
  createdAt: Schema.DateTimeUtc
}) {}

/** The saved snapshot, unless it has expired at `now`. */
export const bootable = (environment: Environment, now: DateTime.Utc): Option.Option<SnapshotId> =>
  environment.snapshot !== null &&
  (environment.expiresAt === null || environment.expiresAt.epochMilliseconds > now.epochMilliseconds)
    ? Option.some(environment.snapshot)
    : Option.none()

/** Maximum characters of the account's name in its repository's name. */
const nameTaken = 40

/** The repository to create for an account. The account's name makes it readable, and the id makes it unique. */
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

/** Whether the repository was created for the account, which may therefore read, write and delete it. */
export const isOwn = (host: HostSupport, account: AccountId, repo: Repo): boolean =>
  repo.owner.toLowerCase() === host.owner.toLowerCase() && repo.name.toLowerCase().endsWith(`-${account.toLowerCase()}`)

/**
 * The environment's repository, if the service's credentials may be used for it: it was created for the account, or a
 * platform admin granted it. An account can't gain access to a repository by naming it.
 */
export const usable = (host: HostSupport, environment: Environment): Option.Option<Repo> =>
  Option.filter(
    environment.repo === null ? Option.none() : RepoUrl.at(host, environment.repo),
    (repo) => environment.granted || isOwn(host, environment.account, repo)
  )

/** An environment's repository, and how it is read. */
export interface ReadableRepo {
  readonly repo: Repo
  readonly readAs: ReadAs
}

/**
 * The environment's repository as its account may read it: with the service's credentials if they may be used for it,
 * and otherwise anonymously. None if it can't be read.
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
