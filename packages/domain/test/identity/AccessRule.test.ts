import { AccountId } from "@castellan/domain/identity/Account.ts"
import { type AccessPolicy, mayActFor, type SharedOrganization } from "@castellan/domain/identity/AccessRule.ts"
import { assert, describe, it } from "@effect/vitest"

const id = (last: number) => AccountId.make(`00000000-0000-4000-8000-00000000000${last}`)
const [self, other] = [id(1), id(2)]

const policies: ReadonlyArray<AccessPolicy> = ["peers", "admins"]
const yesAndNo = [true, false]

const memberships: ReadonlyArray<SharedOrganization> = (["owner", "admin", "member"] as const).flatMap((role) =>
  (["active", "invited"] as const).flatMap((status) =>
    (["organization", "active", "invited"] as const).map((target) => ({ role, status, target }))
  )
)

/** The memberships that permit access, as role, status and target. */
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

describe("The access rule", () => {
  it("always lets an account act for itself", () => {
    for (const policy of policies) {
      for (const platformAdmin of yesAndNo) {
        for (const targetExists of yesAndNo) {
          assert.isTrue(mayActFor(policy, { id: self, platformAdmin }, self, { targetExists, shared: [] }))
        }
      }
    }
  })

  it("lets a platform admin act for every existing account, and for no other", () => {
    for (const policy of policies) {
      for (const shared of [[], ...memberships.map((one) => [one])]) {
        const actor = { id: self, platformAdmin: true }
        assert.isTrue(mayActFor(policy, actor, other, { targetExists: true, shared }))
        assert.isFalse(mayActFor(policy, actor, other, { targetExists: false, shared }))
      }
    }
  })

  it("lets other accounts act through one membership that permits it, and never through several that don't", () => {
    const actor = { id: self, platformAdmin: false }
    for (const policy of policies) {
      const permits = (one: SharedOrganization) => permitting[policy].includes(sentence(one))
      for (const one of memberships) {
        for (const two of memberships) {
          for (const targetExists of yesAndNo) {
            assert.strictEqual(
              mayActFor(policy, actor, other, { targetExists, shared: [one, two] }),
              targetExists && (permits(one) || permits(two)),
              `${policy}: ${sentence(one)}, ${sentence(two)}, ${targetExists}`
            )
          }
        }
      }
      const others = memberships.filter((one) => !permits(one))
      assert.isFalse(mayActFor(policy, actor, other, { targetExists: true, shared: others }))
      assert.isFalse(mayActFor(policy, actor, other, { targetExists: true, shared: [] }))
    }
  })
})
