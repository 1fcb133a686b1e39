/** Where accounts, the digests of their keys, and their memberships are kept. A NUL in a text may come back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option, type Result } from "effect"
import type { Ties } from "./AccessRule.ts"
import type { Account, AccountId } from "./Account.ts"
import type { AccountScope } from "./AccountScope.ts"
import type { ApiKey, ApiKeyId, KeyDigest } from "./ApiKey.ts"
import type { Membership } from "./Membership.ts"

/** An organization as one of its members sees it. */
export interface Joined {
  readonly organization: Account
  readonly membership: Membership
}

/** What a membership comes to. */
export type Standing = Pick<Membership, "role" | "status">

/** What stands in an organization when a membership is about to change. */
export interface MembersSeen {
  /** The membership of whoever asks for the change. */
  readonly actor: Option.Option<Membership>
  /** The membership that is to change. */
  readonly member: Option.Option<Membership>
  /** Active owners; every organization has one. */
  readonly owners: number
}

export class IdentityStore extends Context.Service<
  IdentityStore,
  {
    /** Writes an account. Idempotent on its id: the first one written stays. */
    readonly addAccount: (account: Account) => Effect.Effect<void>
    /** The account of that id. */
    readonly findAccount: (id: AccountId) => Effect.Effect<Option.Option<Account>>
    /** The oldest platform admin; none on a new installation. */
    readonly findPlatformAdmin: Effect.Effect<Option.Option<Account>>
    /** Writes a key of the scope's account under its digest. A digest that is already known keeps its first key. */
    readonly addKey: (scope: AccountScope, key: ApiKey, digest: KeyDigest) => Effect.Effect<void>
    /** The key of that digest with its account, in one look-up; expired keys too, for the caller to judge. */
    readonly findKey: (
      digest: KeyDigest
    ) => Effect.Effect<Option.Option<{ readonly key: ApiKey; readonly account: Account }>>
    /** The keys of the scope's account, newest first. */
    readonly listKeys: (scope: AccountScope) => Effect.Effect<ReadonlyArray<ApiKey>>
    /** Forgets a key of the scope's account and tells whether there was one; another account's key stays. */
    readonly removeKey: (scope: AccountScope, id: ApiKeyId) => Effect.Effect<boolean>
    /**
     * Those of the keys and accounts that are stored, in one query. Expired keys count as stored: the caller checks that.
     * Both lists may be empty, contain duplicates, and be of any length.
     */
    readonly findExisting: (asked: {
      readonly keys: ReadonlyArray<ApiKeyId>
      readonly accounts: ReadonlyArray<AccountId>
    }) => Effect.Effect<{ readonly keys: ReadonlySet<ApiKeyId>; readonly accounts: ReadonlySet<AccountId> }>
    /** Records when a key was used last; an earlier time than the recorded one changes nothing. */
    readonly recordUse: (id: ApiKeyId, at: DateTime.Utc) => Effect.Effect<void>
    /** What the access rule needs to know of an actor and a target, in one look-up. */
    readonly tiesBetween: (actor: AccountId, target: AccountId) => Effect.Effect<Ties>
    /**
     * Writes an organization with the scope's account as its active owner: both or neither. An id that is known changes
     * nothing.
     */
    readonly addOrganization: (scope: AccountScope, organization: Account) => Effect.Effect<void>
    /** The organizations that the scope's account is active in or invited to, in the order it came to them. */
    readonly listOrganizations: (scope: AccountScope) => Effect.Effect<ReadonlyArray<Joined>>
    /** The membership of the scope's account in the organization. */
    readonly findMembership: (scope: AccountScope, organization: AccountId) => Effect.Effect<Option.Option<Membership>>
    /** The members of the scope's account, active and invited, in the order they came; none if it is no organization. */
    readonly listMembers: (scope: AccountScope) => Effect.Effect<ReadonlyArray<Membership>>
    /** Makes the membership of the scope's account in the organization active, and gives it; none if there is none. */
    readonly acceptMembership: (
      scope: AccountScope,
      organization: AccountId
    ) => Effect.Effect<Option.Option<Membership>>
    /**
     * Changes one membership of the scope's organization: `decide` says what is to stand, none for nothing, or fails and
     * changes nothing. Atomic: of many changes at once each is decided on what the one before has left. A new membership
     * gets the date `at`, one that stands keeps its own. A member need not be an account that exists.
     */
    readonly changeMember: <E>(
      scope: AccountScope,
      change: {
        readonly actor: AccountId
        readonly member: AccountId
        readonly at: DateTime.Utc
        readonly decide: (seen: MembersSeen) => Result.Result<Option.Option<Standing>, E>
      }
    ) => Effect.Effect<Option.Option<Membership>, E>
  }
>()("domain/identity/IdentityStore") {}
