/** What a change of an organization's members comes to, decided on what stands. */
import { Option, Result } from "effect"
import type { MembersSeen, Standing } from "./IdentityStore.ts"
import type { Role } from "./Membership.ts"

/**
 * Why a change is refused: whoever asks may not know of the organization, or its role does not permit it, or nobody
 * would be left who owns it.
 */
export type Refusal = "Hidden" | "Forbidden" | "LastOwner"

type Decision = Result.Result<Option.Option<Standing>, Refusal>

/** Whose word an actor's is in the organization; a platform admin's is an owner's. */
const authority = ({ actor, owners }: MembersSeen, platformAdmin: boolean): Role | null => {
  if (owners === 0) return null
  if (platformAdmin) return "owner"
  return Option.isSome(actor) && actor.value.status === "active" ? actor.value.role : null
}

const isLastOwner = ({ member, owners }: MembersSeen) =>
  owners === 1 && Option.isSome(member) && member.value.role === "owner" && member.value.status === "active"

/**
 * Inviting an account, again or for the first time. A role that is not named stays, or is `member`; who is active stays
 * so; whom a platform admin asks for is active at once. What concerns owners is for owners.
 */
export const invitation = (
  seen: MembersSeen,
  asked: { readonly platformAdmin: boolean; readonly role: Role | null }
): Decision => {
  const by = authority(seen, asked.platformAdmin)
  if (by === null) return Result.fail("Hidden")
  if (by === "member") return Result.fail("Forbidden")
  const stood = Option.getOrNull(seen.member)
  const role = asked.role ?? stood?.role ?? "member"
  if (by === "admin" && role !== stood?.role && (role === "owner" || stood?.role === "owner")) {
    return Result.fail("Forbidden")
  }
  if (role !== "owner" && isLastOwner(seen)) return Result.fail("LastOwner")
  const status = asked.platformAdmin || stood?.status === "active" ? "active" : "invited"
  return Result.succeed(Option.some({ role, status }))
}

/**
 * Removing an account, by itself or by those whose role permits it. Who is not there is gone already; of itself an
 * account may ask that of any organization, so that the answer tells nothing.
 */
export const removal = (
  seen: MembersSeen,
  asked: { readonly platformAdmin: boolean; readonly itself: boolean }
): Decision => {
  if (!asked.itself) {
    const by = authority(seen, asked.platformAdmin)
    if (by === null) return Result.fail("Hidden")
    if (by === "member") return Result.fail("Forbidden")
    if (by === "admin" && Option.isSome(seen.member) && seen.member.value.role === "owner") {
      return Result.fail("Forbidden")
    }
  }
  return isLastOwner(seen) ? Result.fail("LastOwner") : Result.succeed(Option.none())
}
