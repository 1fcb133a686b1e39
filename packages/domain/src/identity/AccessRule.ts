/** Who may act for whom. */
import type { Account, AccountId } from "./Account.ts"
import type { MembershipStatus, Role } from "./Membership.ts"

/** Which members may act for their organization and its members: all (`peers`), or its owners and admins (`admins`). */
export type AccessPolicy = "peers" | "admins"

/** One organization that ties two accounts: the actor's place in it, and the target's. */
export interface Tie {
  readonly role: Role
  readonly status: MembershipStatus
  /** `organization` where the target is the organization itself. */
  readonly target: MembershipStatus | "organization"
}

/** All that the rule needs to know of an actor and a target. */
export interface Ties {
  readonly targetExists: boolean
  /** One for every organization that both have a part in. */
  readonly shared: ReadonlyArray<Tie>
}

const permits = (policy: AccessPolicy, { role, status, target }: Tie): boolean =>
  status === "active" && target !== "invited" && (policy === "peers" || role !== "member")

/**
 * Whether the actor may act for the target: for itself always; for any account there is as a platform admin; else for
 * an organization in which its active role permits it, and for the active members of that organization.
 */
export const mayActFor = (
  policy: AccessPolicy,
  actor: Pick<Account, "id" | "platformAdmin">,
  target: AccountId,
  ties: Ties
): boolean =>
  actor.id === target || (ties.targetExists && (actor.platformAdmin || ties.shared.some((tie) => permits(policy, tie))))
