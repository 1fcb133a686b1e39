/** Decides changes of an organization's members. Pure: the store applies the decision atomically. */
import { Option, Result } from "effect"
import type { MembershipContext, RoleAndStatus } from "./IdentityStore.ts"
import type { Role } from "./Membership.ts"

/**
 * Why a change is refused. `Hidden`: the actor may not know whether the organization exists. `Forbidden`: its role does not
 * permit the change. `LastOwner`: the organization would have no owner.
 */
export type MemberChangeRefusal = "Hidden" | "Forbidden" | "LastOwner"

type Decision = Result.Result<Option.Option<RoleAndStatus>, MemberChangeRefusal>

/** The role with which the actor acts in the organization; null if it has none. A platform admin acts as an owner. */
const actingRole = ({ actor, owners }: MembershipContext, platformAdmin: boolean): Role | null => {
  if (owners === 0) return null
  if (platformAdmin) return "owner"
  return Option.isSome(actor) && actor.value.status === "active" ? actor.value.role : null
}

const isLastOwner = ({ member, owners }: MembershipContext) =>
  owners === 1 && Option.isSome(member) && member.value.role === "owner" && member.value.status === "active"

/**
 * Invites an account or changes the role of a member. Without a role a member keeps its own, and a new one becomes `member`.
 * An active member stays active. A platform admin's invitation is active at once. Only owners may add or change owners.
 */
export const decideInvitation = (
  context: MembershipContext,
  request: { readonly platformAdmin: boolean; readonly role: Role | null }
): Decision => {
  const by = actingRole(context, request.platformAdmin)
  if (by === null) return Result.fail("Hidden")
  if (by === "member") return Result.fail("Forbidden")
  const current = Option.getOrNull(context.member)
  const role = request.role ?? current?.role ?? "member"
  if (by === "admin" && role !== current?.role && (role === "owner" || current?.role === "owner")) {
    return Result.fail("Forbidden")
  }
  if (role !== "owner" && isLastOwner(context)) return Result.fail("LastOwner")
  const status = request.platformAdmin || current?.status === "active" ? "active" : "invited"
  return Result.succeed(Option.some({ role, status }))
}

/**
 * Removes a member: itself, or by an actor whose role permits it. Succeeds if there is no such member. An account that
 * removes itself succeeds for every organization id, so the answer does not reveal which organizations exist.
 */
export const decideRemoval = (
  context: MembershipContext,
  request: { readonly platformAdmin: boolean; readonly itself: boolean }
): Decision => {
  if (!request.itself) {
    const by = actingRole(context, request.platformAdmin)
    if (by === null) return Result.fail("Hidden")
    if (by === "member") return Result.fail("Forbidden")
    if (by === "admin" && Option.isSome(context.member) && context.member.value.role === "owner") {
      return Result.fail("Forbidden")
    }
  }
  return isLastOwner(context) ? Result.fail("LastOwner") : Result.succeed(Option.none())
}
