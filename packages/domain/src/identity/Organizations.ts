/** Creates organizations and manages their members. */
import { Context, DateTime, Effect, Layer, Option, Schema } from "effect"
import { Digest } from "effect/crypto/Digest"
import { SecureRandom } from "effect/crypto/SecureRandom"
import { givenOrNew } from "../newNonce.ts"
import { Access, OnScopeGranted } from "./Access.ts"
import { Account, AccountId, inLowerCase } from "./Account.ts"
import { accountIdOf } from "./accountIdOf.ts"
import { AccountScope } from "./AccountScope.ts"
import { CurrentActor } from "./CurrentActor.ts"
import { IdentityStore, type JoinedOrganization } from "./IdentityStore.ts"
import { decideInvitation, decideRemoval, type MemberChangeRefusal } from "./MemberChange.ts"
import type { Membership, Role } from "./Membership.ts"

/** The organization does not exist, or the actor is not a member of it. Callers can't tell which. */
export class OrganizationNotFound extends Schema.TaggedError<OrganizationNotFound>()("OrganizationNotFound", {
  id: AccountId
}) {}

/** The actor's role in the organization does not permit the operation. */
export class RoleNotPermitted extends Schema.TaggedError<RoleNotPermitted>()("RoleNotPermitted", {}) {}

/** The change would leave the organization without an owner. */
export class LastOwner extends Schema.TaggedError<LastOwner>()("LastOwner", {}) {}

/** An organization can't be a member of itself. */
export class OrganizationCannotJoinItself extends Schema.TaggedError<OrganizationCannotJoinItself>()(
  "OrganizationCannotJoinItself",
  {}
) {}

/** The account does not exist. Only platform admins get this error; others may not learn which accounts exist. */
export class AccountUnknown extends Schema.TaggedError<AccountUnknown>()("AccountUnknown", { account: AccountId }) {}

export class Organizations extends Context.Service<
  Organizations,
  {
    /** Creates an organization that the actor owns. The same nonce gives the same organization. */
    readonly create: (request: {
      readonly name: string
      readonly nonce: Option.Option<string>
    }) => Effect.Effect<Account, never, CurrentActor>
    /** The organizations that the actor is active in or invited to, oldest membership first. */
    readonly list: Effect.Effect<ReadonlyArray<JoinedOrganization>, never, CurrentActor>
    /** The members of an organization, for its active members and platform admins. */
    readonly members: (
      organization: AccountId
    ) => Effect.Effect<ReadonlyArray<Membership>, OrganizationNotFound, CurrentActor>
    /**
     * Invites an account, or changes the role of a member. Idempotent. For owners and admins, who don't learn whether the
     * account exists: an invitation is stored in either case. A platform admin's invitation makes the account an active
     * member at once.
     */
    readonly invite: (
      organization: AccountId,
      request: { readonly account: AccountId; readonly role: Role | null }
    ) => Effect.Effect<
      Membership,
      OrganizationNotFound | RoleNotPermitted | LastOwner | OrganizationCannotJoinItself | AccountUnknown,
      CurrentActor
    >
    /** Accepts the actor's invitation. Idempotent. */
    readonly accept: (organization: AccountId) => Effect.Effect<Membership, OrganizationNotFound, CurrentActor>
    /** Removes a member or an invitation: the actor's own, or any as an owner or admin. Idempotent. */
    readonly remove: (
      organization: AccountId,
      account: AccountId
    ) => Effect.Effect<void, OrganizationNotFound | RoleNotPermitted | LastOwner, CurrentActor>
  }
>()("domain/identity/Organizations") {
  static readonly layer = Layer.effect(
    Organizations,
    Effect.gen(function* () {
      const store = yield* IdentityStore
      const access = yield* Access
      const random = yield* SecureRandom
      const digest = yield* Digest

      const scopeOf = (organization: AccountId) => AccountScope.ofOwner({ account: organization })

      const toError = (organization: AccountId) => (refusal: MemberChangeRefusal) => {
        switch (refusal) {
          case "Hidden":
            return new OrganizationNotFound({ id: organization })
          case "Forbidden":
            return new RoleNotPermitted()
          case "LastOwner":
            return new LastOwner()
        }
      }

      const create = Effect.fn("Organizations.create")(function* (request: {
        readonly name: string
        readonly nonce: Option.Option<string>
      }) {
        const nonce = yield* givenOrNew(random, request.nonce)
        const organization = new Account({
          id: yield* accountIdOf(digest, nonce),
          name: request.name,
          email: null,
          platformAdmin: false,
          createdAt: yield* DateTime.now
        })
        yield* store.addOrganization(yield* AccountScope.own, organization)
        return organization
      })

      const members = Effect.fn("Organizations.members")(function* (named: AccountId) {
        const organization = inLowerCase(named)
        const { platformAdmin } = yield* CurrentActor
        const own = yield* store.findMembership(yield* AccountScope.own, organization)
        const isMember = Option.isSome(own) && own.value.status === "active"
        const found = isMember || platformAdmin ? yield* store.listMembers(scopeOf(organization)) : []
        return found.length > 0 ? found : yield* new OrganizationNotFound({ id: organization })
      })

      const invite = Effect.fn("Organizations.invite")(function* (
        named: AccountId,
        request: { readonly account: AccountId; readonly role: Role | null }
      ) {
        const organization = inLowerCase(named)
        const member = inLowerCase(request.account)
        const { id: actor, platformAdmin } = yield* CurrentActor
        if (member === organization) return yield* new OrganizationCannotJoinItself()
        if (platformAdmin && Option.isNone(yield* store.findAccount(member))) {
          return yield* new AccountUnknown({ account: member })
        }
        const changed = yield* store
          .changeMember(scopeOf(organization), {
            actor,
            member,
            at: yield* DateTime.now,
            decide: (seen) => decideInvitation(seen, { platformAdmin, role: request.role })
          })
          .pipe(Effect.mapError(toError(organization)))
        yield* access.membershipChanged(member)
        ;(yield* OnScopeGranted)(organization)
        return Option.getOrThrow(changed)
      })

      const accept = Effect.fn("Organizations.accept")(function* (named: AccountId) {
        const organization = inLowerCase(named)
        const accepted = yield* store.acceptMembership(yield* AccountScope.own, organization)
        return Option.isSome(accepted) ? accepted.value : yield* new OrganizationNotFound({ id: organization })
      })

      const remove = Effect.fn("Organizations.remove")(function* (named: AccountId, account: AccountId) {
        const organization = inLowerCase(named)
        const member = inLowerCase(account)
        const { id: actor, platformAdmin } = yield* CurrentActor
        yield* store
          .changeMember(scopeOf(organization), {
            actor,
            member,
            at: yield* DateTime.now,
            decide: (seen) => decideRemoval(seen, { platformAdmin, itself: actor === member })
          })
          .pipe(Effect.mapError(toError(organization)))
        yield* access.membershipChanged(member)
      })

      return Organizations.of({
        create,
        list: Effect.flatMap(AccountScope.own, store.listOrganizations),
        members,
        invite,
        accept,
        remove
      })
    })
  )
}
