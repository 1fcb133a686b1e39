import { AccountId } from "@castellan/domain/identity/Account.ts"
import type { MembershipContext, RoleAndStatus } from "@castellan/domain/identity/IdentityStore.ts"
import { decideInvitation, decideRemoval, type MemberChangeRefusal } from "@castellan/domain/identity/MemberChange.ts"
import { Membership, MembershipStatus, Role } from "@castellan/domain/identity/Membership.ts"
import { assert, describe, it } from "@effect/vitest"
import { DateTime, Option, Result } from "effect"

const id = (last: number) => AccountId.make(`00000000-0000-4000-8000-00000000000${last}`)

const standings: ReadonlyArray<RoleAndStatus | null> = [
  null,
  ...Role.literals.flatMap((role) => MembershipStatus.literals.map((status) => ({ role, status })))
]

const membership = (account: number, standing: RoleAndStatus | null) =>
  Option.map(
    Option.fromNullOr(standing),
    (standing) =>
      new Membership({ organization: id(9), account: id(account), ...standing, createdAt: DateTime.makeUnsafe(0) })
  )

const isOwner = (standing: RoleAndStatus | null) => standing?.role === "owner" && standing.status === "active"

interface Situation extends MembershipContext {
  readonly by: RoleAndStatus | null
  readonly of: RoleAndStatus | null
}

/** Every organization in which one account asks for a change of another, with as few owners as can be, and with more. */
const situations: ReadonlyArray<Situation> = standings.flatMap((by) =>
  standings.flatMap((of) => {
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

const said = (situation: Situation) =>
  `${JSON.stringify(situation.by)} of ${JSON.stringify(situation.of)}, owners: ${situation.owners}`

const failure = (decision: Result.Result<unknown, MemberChangeRefusal>) => Option.getOrNull(Result.getFailure(decision))

const isLast = ({ of, owners }: Situation) => isOwner(of) && owners === 1

describe("Inviting an account", () => {
  const asked = { platformAdmin: false, role: null }

  it("is for those who are in the organization, and of those for owners and admins", () => {
    for (const situation of situations) {
      const refusal = failure(decideInvitation(situation, asked))
      const expected =
        situation.by?.status !== "active" ? "Hidden" : situation.by.role === "member" ? "Forbidden" : null
      assert.strictEqual(refusal, expected, said(situation))
    }
  })

  it("without a role keeps the one that stands, or makes a member, who has to accept", () => {
    for (const situation of situations) {
      const decided = decideInvitation(situation, asked)
      if (Result.isSuccess(decided)) {
        const expected = { role: situation.of?.role ?? "member", status: situation.of?.status ?? "invited" }
        assert.deepStrictEqual(decided.success, Option.some(expected), said(situation))
      }
    }
  })

  it("with a role gives that, to and from owners by owners only, and keeps one owner", () => {
    for (const role of Role.literals) {
      for (const situation of situations.filter(({ by }) => by?.status === "active" && by.role !== "member")) {
        const decided = decideInvitation(situation, { platformAdmin: false, role })
        const concernsOwners = role !== situation.of?.role && [role, situation.of?.role].includes("owner")
        if (situation.by?.role === "admin" && concernsOwners) {
          assert.strictEqual(failure(decided), "Forbidden", said(situation))
        } else if (isLast(situation) && role !== "owner") {
          assert.strictEqual(failure(decided), "LastOwner", said(situation))
        } else {
          const expected = { role, status: situation.of?.status ?? "invited" }
          assert.deepStrictEqual(Result.getOrThrow(decided), Option.some(expected), said(situation))
        }
      }
    }
  })

  it("by a platform admin is as by an owner, and the account is active at once", () => {
    for (const role of [null, ...Role.literals]) {
      for (const situation of situations) {
        const decided = decideInvitation(situation, { platformAdmin: true, role })
        const becomes = role ?? situation.of?.role ?? "member"
        if (isLast(situation) && becomes !== "owner") assert.strictEqual(failure(decided), "LastOwner")
        else assert.deepStrictEqual(Result.getOrThrow(decided), Option.some({ role: becomes, status: "active" }))
      }
    }
  })

  it("to what is no organization is refused, to platform admins too", () => {
    for (const platformAdmin of [true, false]) {
      assert.strictEqual(failure(decideInvitation(nowhere, { platformAdmin, role: null })), "Hidden")
    }
  })
})

describe("Removing an account", () => {
  it("is for owners and admins, and of owners for owners; never of the last", () => {
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
      assert.strictEqual(failure(decided), expected, said(situation))
      if (Result.isSuccess(decided)) assert.deepStrictEqual(decided.success, Option.none())
    }
  })

  it("is for the account itself, whatever it is, unless it is the last owner", () => {
    for (const of of standings) {
      for (const owners of [1, 2]) {
        const seen = { actor: membership(1, of), member: membership(1, of), owners }
        const decided = decideRemoval(seen, { platformAdmin: false, itself: true })
        assert.strictEqual(failure(decided), isOwner(of) && owners === 1 ? "LastOwner" : null)
      }
    }
    assert.isTrue(Result.isSuccess(decideRemoval(nowhere, { platformAdmin: false, itself: true })))
  })

  it("is for platform admins, unless it is the last owner or no organization", () => {
    for (const situation of situations) {
      const decided = decideRemoval(situation, { platformAdmin: true, itself: false })
      assert.strictEqual(failure(decided), isLast(situation) ? "LastOwner" : null, said(situation))
    }
    assert.strictEqual(failure(decideRemoval(nowhere, { platformAdmin: true, itself: false })), "Hidden")
  })
})
