/** Stores accounts, digests of API keys, and memberships. A NUL in a text may be read back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option, type Result } from "effect"
import type { Relationship } from "./AccessRule.ts"
import type { Account, AccountId } from "./Account.ts"
import type { AccountScope } from "./AccountScope.ts"
import type { ApiKey, ApiKeyId, KeyDigest } from "./ApiKey.ts"
import type { Membership } from "./Membership.ts"

/** An organization, and the membership of one account in it. */
export interface JoinedOrganization {
  readonly organization: Account
  readonly membership: Membership
}

/** The part of a membership that a change decides. */
export type RoleAndStatus = Pick<Membership, "role" | "status">

/** The state of an organization from which the change of a membership is decided. */
export interface MembershipContext {
  /** The membership of the account that requests the change. */
  readonly actor: Option.Option<Membership>
  /** The membership that changes. */
  readonly member: Option.Option<Membership>
  /** Number of active owners. Every organization has at least one; 0 if there is no organization. */
  readonly owners: number
}

export class IdentityStore extends Context.Service<
  IdentityStore,
  {
    /** Inserts an account. Idempotent on its id: the first one written stays. */
    readonly addAccount: (account: Account) => Effect.Effect<void>
    /** The account with this id. */
    readonly findAccount: (id: AccountId) => Effect.Effect<Option.Option<Account>>
    /** The oldest platform admin; none on a new installation. */
    readonly findPlatformAdmin: Effect.Effect<Option.Option<Account>>
    /** Inserts a key of the scope's account under its digest. A digest that is already stored keeps its first key. */
    readonly addKey: (scope: AccountScope, key: ApiKey, digest: KeyDigest) => Effect.Effect<void>
    /** The key with this digest and its account, in one query. Includes expired keys: the caller checks that. */
    readonly findKey: (
      digest: KeyDigest
    ) => Effect.Effect<Option.Option<{ readonly key: ApiKey; readonly account: Account }>>
    /** The keys of the scope's account, newest first. */
    readonly listKeys: (scope: AccountScope) => Effect.Effect<ReadonlyArray<ApiKey>>
    /** Deletes a key of the scope's account. False if it has no such key; another account's key stays. */
    readonly removeKey: (scope: AccountScope, id: ApiKeyId) => Effect.Effect<boolean>
    /**
     * The subset of the keys and accounts that is stored, in one query. Includes expired keys: the caller checks that.
     * Both lists may be empty, contain duplicates, and be of any length.
     */
    readonly findExisting: (ids: {
      readonly keys: ReadonlyArray<ApiKeyId>
      readonly accounts: ReadonlyArray<AccountId>
    }) => Effect.Effect<{ readonly keys: ReadonlySet<ApiKeyId>; readonly accounts: ReadonlySet<AccountId> }>
    /** Records the last use of a key. A time before the recorded one changes nothing. */
    readonly recordUse: (id: ApiKeyId, at: DateTime.Utc) => Effect.Effect<void>
    /** The facts about an actor and a target that the access rule needs, in one query. */
    readonly relationshipBetween: (actor: AccountId, target: AccountId) => Effect.Effect<Relationship>
    /**
     * Inserts an organization with the scope's account as its active owner, both or neither. Changes nothing if the id is
     * already stored.
     */
    readonly addOrganization: (scope: AccountScope, organization: Account) => Effect.Effect<void>
    /** The organizations that the scope's account is active in or invited to, oldest membership first. */
    readonly listOrganizations: (scope: AccountScope) => Effect.Effect<ReadonlyArray<JoinedOrganization>>
    /** The membership of the scope's account in the organization. */
    readonly findMembership: (scope: AccountScope, organization: AccountId) => Effect.Effect<Option.Option<Membership>>
    /** The active and invited members of the scope's account, oldest membership first; empty if it is not an organization. */
    readonly listMembers: (scope: AccountScope) => Effect.Effect<ReadonlyArray<Membership>>
    /** Makes the membership of the scope's account in the organization active, and returns it; none if there is none. */
    readonly acceptMembership: (
      scope: AccountScope,
      organization: AccountId
    ) => Effect.Effect<Option.Option<Membership>>
    /**
     * Changes one membership of the scope's organization. `decide` returns the new role and status, or none to delete the
     * membership; if it fails, nothing changes. Atomic: of several concurrent changes each one is decided on the result of
     * the one before. A new membership is created at `at`; an existing one keeps its date. The member need not be an
     * existing account.
     */
    readonly changeMember: <E>(
      scope: AccountScope,
      change: {
        readonly actor: AccountId
        readonly member: AccountId
        readonly at: DateTime.Utc
        readonly decide: (context: MembershipContext) => Result.Result<Option.Option<RoleAndStatus>, E>
      }
    ) => Effect.Effect<Option.Option<Membership>, E>
  }
>()("domain/identity/IdentityStore") {}
