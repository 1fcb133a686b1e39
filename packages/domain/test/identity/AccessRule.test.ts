import { AccountId } from "@castellan/domain/identity/Account.ts"
import { type AccessPolicy, mayActFor, type SharedOrganization } from "@castellan/domain/identity/AccessRule.ts"
import { assert, describe, it } from "@effect/vitest"

const id = (last: number) => AccountId.make(`00000000-0000-4000-8000-00000000000${last}`)
const [self, other] = [id(1), id(2)]

const policies: ReadonlyArray<AccessPolicy> = ["peers", "admins"]
const yesAndNo = [true, false]

const ties: ReadonlyArray<SharedOrganization> = (["owner", "admin", "member"] as const).flatMap((role) =>
  (["active", "invited"] as const).flatMap((status) =>
    (["organization", "active", "invited"] as const).map((target) => ({ role, status, target }))
  )
)

/** The ties that permit, one by one, as a person would list them. */
const permitting: Record<AccessPolicy, ReadonlyArray<string>> = {
  peers: [
    "owner active organization",
    "owner active active",
    "admin active organization",
    "admin active active",
    "member active organization",
    "member active active"
  ],
  admins: ["owner active organization", "owner active active", "admin active organization", "admin active active"]
}

const sentence = ({ role, status, target }: SharedOrganization) => `${role} ${status} ${target}`

describe("Who may act for whom", () => {
  it("an account may for itself, whatever else is so", () => {
    for (const policy of policies) {
      for (const platformAdmin of yesAndNo) {
        for (const targetExists of yesAndNo) {
          assert.isTrue(mayActFor(policy, { id: self, platformAdmin }, self, { targetExists, shared: [] }))
        }
      }
    }
  })

  it("a platform admin may for every account there is, and for none that is not", () => {
    for (const policy of policies) {
      for (const shared of [[], ...ties.map((tie) => [tie])]) {
        const actor = { id: self, platformAdmin: true }
        assert.isTrue(mayActFor(policy, actor, other, { targetExists: true, shared }))
        assert.isFalse(mayActFor(policy, actor, other, { targetExists: false, shared }))
      }
    }
  })

  it("anybody else may by one tie that permits it, and by no number of others", () => {
    const actor = { id: self, platformAdmin: false }
    for (const policy of policies) {
      const permits = (tie: SharedOrganization) => permitting[policy].includes(sentence(tie))
      for (const one of ties) {
        for (const two of ties) {
          for (const targetExists of yesAndNo) {
            assert.strictEqual(
              mayActFor(policy, actor, other, { targetExists, shared: [one, two] }),
              targetExists && (permits(one) || permits(two)),
              `${policy}: ${sentence(one)}, ${sentence(two)}, ${targetExists}`
            )
          }
        }
      }
      const others = ties.filter((tie) => !permits(tie))
      assert.isFalse(mayActFor(policy, actor, other, { targetExists: true, shared: others }))
      assert.isFalse(mayActFor(policy, actor, other, { targetExists: true, shared: [] }))
    }
  })
})
