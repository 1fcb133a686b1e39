/** The rule that decides which accounts an actor may act for. */
import type { Account, AccountId } from "./Account.ts"
import type { MembershipStatus, Role } from "./Membership.ts"

/** Which active members may act for their organization and each other: all (`peers`), or owners and admins (`admins`). */
export type AccessPolicy = "peers" | "admins"

/** The memberships of an actor and a target in one organization. */
export interface SharedOrganization {
  readonly role: Role
  readonly status: MembershipStatus
  /** `organization` if the target is the organization itself. */
  readonly target: MembershipStatus | "organization"
}

/** The facts about an actor and a target from which the rule decides. */
export interface Relationship {
  readonly targetExists: boolean
  /** Every organization in which both have a membership or invitation. */
  readonly shared: ReadonlyArray<SharedOrganization>
}

const permits = (policy: AccessPolicy, { role, status, target }: SharedOrganization): boolean =>
  status === "active" && target !== "invited" && (policy === "peers" || role !== "member")

/**
 * Whether the actor may act for the target. An actor may always act for itself. A platform admin may act for every existing
 * account. Other actors may act for an organization in which their active role permits it, and for its active members.
 */
export const mayActFor = (
  policy: AccessPolicy,
  actor: Pick<Account, "id" | "platformAdmin">,
  target: AccountId,
  { shared, targetExists }: Relationship
): boolean =>
  actor.id === target || (targetExists && (actor.platformAdmin || shared.some((one) => permits(policy, one))))
