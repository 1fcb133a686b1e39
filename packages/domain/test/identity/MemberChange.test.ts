import { AccountId } from "@castellan/domain/identity/Account.ts"
import type { MembershipContext, RoleAndStatus } from "@castellan/domain/identity/IdentityStore.ts"
import { decideInvitation, decideRemoval, type MemberChangeRefusal } from "@castellan/domain/identity/MemberChange.ts"
import { Membership, MembershipStatus, Role } from "@castellan/domain/identity/Membership.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Option, Result } from "effect"

const id = (last: number) => AccountId.make(`00000000-0000-4000-8000-00000000000${last}`)

const roleAndStatuses: ReadonlyArray<RoleAndStatus | null> = [
  null,
  ...Role.literals.flatMap((role) => MembershipStatus.literals.map((status) => ({ role, status })))
]

const membership = (account: number, roleAndStatus: RoleAndStatus | null) =>
  Option.map(
    Option.fromNullOr(roleAndStatus),
    (roleAndStatus) =>
      new Membership({ organization: id(9), account: id(account), ...roleAndStatus, createdAt: DateTime.makeUnsafe(0) })
  )

const isOwner = (roleAndStatus: RoleAndStatus | null) =>
  roleAndStatus?.role === "owner" && roleAndStatus.status === "active"

interface Situation extends MembershipContext {
  readonly by: RoleAndStatus | null
  readonly of: RoleAndStatus | null
}

/** Every combination of the actor's and the member's role and status, with the fewest possible owners, and with one more. */
const situations: ReadonlyArray<Situation> = roleAndStatuses.flatMap((by) =>
  roleAndStatuses.flatMap((of) => {
    const least = Math.max(1, [by, of].filter(isOwner).length)
    return [least, least + 1].map((owners) => ({
      by,
      of,
      actor: membership(1, by),
      member: membership(2, of),
      owners
    }))
  })
)

const nowhere: MembershipContext = { actor: Option.none(), member: Option.none(), owners: 0 }

const sentenceOf = (situation: Situation) =>
  `${JSON.stringify(situation.by)} of ${JSON.stringify(situation.of)}, owners: ${situation.owners}`

const failure = (decision: Result.Result<unknown, MemberChangeRefusal>) => Option.getOrNull(Result.getFailure(decision))

const isLast = ({ of, owners }: Situation) => isOwner(of) && owners === 1

describe("decideInvitation", () => {
  const request = { platformAdmin: false, role: null }

  it("permits owners and admins, and hides the organization from non-members", () => {
    for (const situation of situations) {
      const refusal = failure(decideInvitation(situation, request))
      const expected =
        situation.by?.status !== "active" ? "Hidden" : situation.by.role === "member" ? "Forbidden" : null
      assert.strictEqual(refusal, expected, sentenceOf(situation))
    }
  })

  it("without a role keeps the current one, or invites as a member", () => {
    for (const situation of situations) {
      const decided = decideInvitation(situation, request)
      if (Result.isSuccess(decided)) {
        const expected = { role: situation.of?.role ?? "member", status: situation.of?.status ?? "invited" }
        assert.deepStrictEqual(decided.success, Option.some(expected), sentenceOf(situation))
      }
    }
  })

  it("sets the requested role, permits only owners to change owners, and keeps the last owner", () => {
    for (const role of Role.literals) {
      for (const situation of situations.filter(({ by }) => by?.status === "active" && by.role !== "member")) {
        const decided = decideInvitation(situation, { platformAdmin: false, role })
        const concernsOwners = role !== situation.of?.role && [role, situation.of?.role].includes("owner")
        if (situation.by?.role === "admin" && concernsOwners) {
          assert.strictEqual(failure(decided), "Forbidden", sentenceOf(situation))
        } else if (isLast(situation) && role !== "owner") {
          assert.strictEqual(failure(decided), "LastOwner", sentenceOf(situation))
        } else {
          const expected = { role, status: situation.of?.status ?? "invited" }
          assert.deepStrictEqual(Result.getOrThrow(decided), Option.some(expected), sentenceOf(situation))
        }
      }
    }
  })

  it("treats a platform admin as an owner, and makes the account active at once", () => {
    for (const role of [null, ...Role.literals]) {
      for (const situation of situations) {
        const decided = decideInvitation(situation, { platformAdmin: true, role })
        const becomes = role ?? situation.of?.role ?? "member"
        if (isLast(situation) && becomes !== "owner") assert.strictEqual(failure(decided), "LastOwner")
        else assert.deepStrictEqual(Result.getOrThrow(decided), Option.some({ role: becomes, status: "active" }))
      }
    }
  })

  it("refuses an account that is not an organization, even to platform admins", () => {
    for (const platformAdmin of [true, false]) {
      assert.strictEqual(failure(decideInvitation(nowhere, { platformAdmin, role: null })), "Hidden")
    }
  })
})

describe("decideRemoval", () => {
  it("permits owners and admins, permits only owners to remove owners, and keeps the last owner", () => {
    for (const situation of situations) {
      const { by, of } = situation
      const decided = decideRemoval(situation, { platformAdmin: false, itself: false })
      const expected: MemberChangeRefusal | null =
        by?.status !== "active"
          ? "Hidden"
          : by.role === "member" || (by.role === "admin" && of?.role === "owner")
            ? "Forbidden"
            : isLast(situation)
              ? "LastOwner"
              : null
      assert.strictEqual(failure(decided), expected, sentenceOf(situation))
      if (Result.isSuccess(decided)) assert.deepStrictEqual(decided.success, Option.none())
    }
  })

  it("permits an account to remove itself unless it is the last owner", () => {
    for (const of of roleAndStatuses) {
      for (const owners of [1, 2]) {
        const seen = { actor: membership(1, of), member: membership(1, of), owners }
        const decided = decideRemoval(seen, { platformAdmin: false, itself: true })
        assert.strictEqual(failure(decided), isOwner(of) && owners === 1 ? "LastOwner" : null)
      }
    }
    assert.isTrue(Result.isSuccess(decideRemoval(nowhere, { platformAdmin: false, itself: true })))
  })

  it("permits platform admins, except for the last owner or an account that is not an organization", () => {
    for (const situation of situations) {
      const decided = decideRemoval(situation, { platformAdmin: true, itself: false })
      assert.strictEqual(failure(decided), isLast(situation) ? "LastOwner" : null, sentenceOf(situation))
    }
    assert.strictEqual(failure(decideRemoval(nowhere, { platformAdmin: true, itself: false })), "Hidden")
  })
})
