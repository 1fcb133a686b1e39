import { assert, layer } from "@effect/vitest"
import type { AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { DateTime, Effect, Fiber, Option, Result } from "effect"
import { TestClock } from "effect/testing"
import { WebApi } from "../WebApi.ts"

interface Person {
  readonly account: { readonly id: AccountId }
  readonly key: string
}

const ask = (...args: Parameters<WebApi["Service"]["ask"]>) => Effect.flatMap(WebApi, (api) => api.ask(...args))
const join = (more?: { readonly platformAdmin?: boolean }) => Effect.flatMap(WebApi, (api) => api.join(more))

const people = Effect.all([join(), join(), join(), join()])

const organization = Effect.fnUntraced(function* (owner: Person) {
  const made = yield* ask("POST", "/api/organizations", { key: owner.key, body: { name: "Analytical Engines" } })
  return made.json.organization.id as string
})

const invite = (by: Person, id: string, accountId: string, role?: string) =>
  ask("POST", `/api/organizations/${id}/members`, { key: by.key, body: { accountId, role } })
const accept = (by: Person, id: string) => ask("POST", `/api/organizations/${id}/members/accept`, { key: by.key })
const remove = (by: Person, id: string, accountId: string) =>
  ask("DELETE", `/api/organizations/${id}/members/${accountId}`, { key: by.key })
const members = (by: Person, id: string) => ask("GET", `/api/organizations/${id}/members`, { key: by.key })

/** Adds an active member to the organization. */
const enroll = Effect.fnUntraced(function* (by: Person, id: string, who: Person, role = "member") {
  yield* invite(by, id, who.account.id, role)
  yield* accept(who, id)
})

const actsFor = (actor: Person, account: string) =>
  Effect.map(ask("GET", `/api/sandboxes?account_id=${account}`, { key: actor.key }), ({ status }) => status === 200)

const notFound = {
  status: "error",
  success: false,
  error: "Organization not found",
  code: "organization_not_found"
}
const forbidden = { status: "error", success: false, error: "Forbidden", code: "forbidden" }

layer(WebApi.layer)("Organizations over HTTP", (it) => {
  it.effect("are created by any account, which becomes the owner", () =>
    Effect.gen(function* () {
      const [owner] = yield* people
      const made = yield* ask("POST", "/api/organizations", { key: owner.key, body: { name: "Analytical Engines" } })
      assert.strictEqual(made.status, 201)
      const { id, name } = made.json.organization
      assert.deepStrictEqual(Object.keys(made.json.organization), ["id", "name"])
      assert.strictEqual(name, "Analytical Engines")
      assert.deepStrictEqual((yield* ask("GET", "/api/organizations", { key: owner.key })).json, {
        organizations: [{ id, name, role: "owner" }],
        invitations: []
      })
      assert.deepStrictEqual((yield* members(owner, id)).json, {
        members: [{ accountId: owner.account.id, role: "owner", status: "active" }]
      })
      for (const [body, sentence] of [
        [{}, "name is required"],
        [{ name: "" }, "name must not be empty"],
        [{ name: "x".repeat(201) }, "name must be at most 200 characters"]
      ] as const) {
        const refused = yield* ask("POST", "/api/organizations", { key: owner.key, body })
        assert.deepStrictEqual([refused.status, refused.json.error], [400, sentence])
      }
    })
  )

  it.effect("are created once for one idempotency key", () =>
    Effect.gen(function* () {
      const [owner] = yield* people
      const request = { key: owner.key, body: { name: "One" }, headers: { "idempotency-key": "org-1" } }
      const first = yield* ask("POST", "/api/organizations", request)
      const again = yield* ask("POST", "/api/organizations", request)
      assert.deepStrictEqual([again.status, again.text], [first.status, first.text])
      assert.strictEqual((yield* ask("GET", "/api/organizations", { key: owner.key })).json.organizations.length, 1)
    })
  )

  it.effect("have members once they accept, who can't act for the organization before", () =>
    Effect.gen(function* () {
      const [owner, member] = yield* people
      const id = yield* organization(owner)
      const invited = yield* invite(owner, id, member.account.id)
      assert.deepStrictEqual(
        [invited.status, invited.json],
        [201, { member: { accountId: member.account.id, role: "member", status: "invited" } }]
      )
      assert.strictEqual((yield* members(member, id)).status, 404)
      assert.deepStrictEqual((yield* ask("GET", "/api/organizations", { key: member.key })).json, {
        organizations: [],
        invitations: [{ id, name: "Analytical Engines", role: "member" }]
      })
      assert.isFalse(yield* actsFor(member, id))
      assert.isFalse(yield* actsFor(owner, member.account.id))
      for (let i = 0; i < 2; i++) {
        const accepted = yield* accept(member, id)
        assert.deepStrictEqual(
          [accepted.status, accepted.json],
          [200, { member: { accountId: member.account.id, role: "member", status: "active" } }]
        )
      }
      assert.strictEqual((yield* members(member, id)).json.members.length, 2)
      assert.isTrue(yield* actsFor(member, id))
      assert.isTrue(yield* actsFor(member, owner.account.id))
      assert.isTrue(yield* actsFor(owner, member.account.id))
      const again = yield* invite(owner, id, member.account.id)
      assert.deepStrictEqual([again.status, again.json.member.status], [201, "active"])
    })
  )

  it.effect("have active members at once if a platform admin invites them", () =>
    Effect.gen(function* () {
      const [owner, member] = yield* people
      const admin = yield* join({ platformAdmin: true })
      const id = yield* organization(owner)
      const added = yield* invite(admin, id, member.account.id, "admin")
      assert.deepStrictEqual(
        [added.status, added.json.member],
        [201, { accountId: member.account.id, role: "admin", status: "active" }]
      )
      assert.strictEqual((yield* members(admin, id)).json.members.length, 2)
      assert.isFalse(yield* actsFor(member, admin.account.id))
      const unknown = yield* invite(admin, id, "00000000-0000-4000-8000-00000000dead")
      assert.deepStrictEqual([unknown.status, unknown.json.error], [404, "Account not found"])
    })
  )

  it.effect("do not reveal whether an account exists", () =>
    Effect.gen(function* () {
      const [owner, member] = yield* people
      const id = yield* organization(owner)
      const real = yield* invite(owner, id, member.account.id)
      const unreal = yield* invite(owner, id, "00000000-0000-4000-8000-00000000dead")
      assert.deepStrictEqual(
        [unreal.status, unreal.text.replace("00000000-0000-4000-8000-00000000dead", member.account.id)],
        [real.status, real.text]
      )
      assert.deepStrictEqual(
        (yield* members(owner, id)).json.members.map(({ status }: { status: string }) => status),
        ["active", "invited", "invited"]
      )
      assert.isFalse(yield* actsFor(owner, "00000000-0000-4000-8000-00000000dead"))
    })
  )

  it.effect("are not found for accounts that are not members", () =>
    Effect.gen(function* () {
      const [owner, stranger, other] = yield* people
      const admin = yield* join({ platformAdmin: true })
      const id = yield* organization(owner)
      for (const organization of [id, "00000000-0000-4000-8000-00000000dead", other.account.id]) {
        const who = organization === id ? stranger : [stranger, admin]
        for (const person of [who].flat()) {
          for (const answer of [
            yield* members(person, organization),
            yield* invite(person, organization, owner.account.id),
            yield* remove(person, organization, owner.account.id),
            yield* accept(person, organization)
          ]) {
            assert.deepStrictEqual([answer.status, answer.json], [404, notFound])
          }
          assert.strictEqual((yield* remove(person, organization, person.account.id)).status, 204)
        }
      }
      const malformed = yield* members(owner, "mine")
      assert.deepStrictEqual([malformed.status, malformed.json.error], [400, "id must be a valid UUID"])
    })
  )

  it.effect("are changed only by members whose role permits it", () =>
    Effect.gen(function* () {
      const [owner, admin, member, other] = yield* people
      const id = yield* organization(owner)
      yield* enroll(owner, id, admin, "admin")
      yield* enroll(owner, id, member)
      const refused = [
        yield* invite(member, id, other.account.id),
        yield* remove(member, id, other.account.id),
        yield* remove(member, id, admin.account.id),
        yield* invite(admin, id, other.account.id, "owner"),
        yield* invite(admin, id, owner.account.id, "member"),
        yield* remove(admin, id, owner.account.id)
      ]
      for (const answer of refused) assert.deepStrictEqual([answer.status, answer.json], [403, forbidden])
      assert.strictEqual((yield* invite(admin, id, other.account.id)).status, 201)
      for (let i = 0; i < 2; i++) assert.strictEqual((yield* remove(admin, id, other.account.id)).status, 204)
      const raised = yield* invite(owner, id, member.account.id, "admin")
      assert.deepStrictEqual(raised.json.member, { accountId: member.account.id, role: "admin", status: "active" })
      for (let i = 0; i < 2; i++) assert.strictEqual((yield* remove(member, id, member.account.id)).status, 204)
      assert.isFalse(yield* actsFor(member, id))
      const odd = yield* invite(owner, id, other.account.id, "king")
      assert.deepStrictEqual([odd.status, odd.json.error], [400, "role must be owner, admin or member"])
      const itself = yield* invite(owner, id, id)
      assert.deepStrictEqual([itself.status, itself.json.error], [400, "An organization can't be a member of itself"])
    })
  )

  it.effect("keep their last owner", () =>
    Effect.gen(function* () {
      const [owner, second, member] = yield* people
      const id = yield* organization(owner)
      yield* enroll(owner, id, member)
      yield* invite(owner, id, second.account.id, "owner")
      const lastOwner = { status: "error", success: false, error: "The last owner can't leave", code: "last_owner" }
      const admin = yield* join({ platformAdmin: true })
      for (const answer of [
        yield* remove(owner, id, owner.account.id),
        yield* remove(admin, id, owner.account.id),
        yield* invite(owner, id, owner.account.id, "member")
      ]) {
        assert.deepStrictEqual([answer.status, answer.json], [409, lastOwner])
      }
      yield* accept(second, id)
      const left = yield* Effect.all(
        [owner, second].map((one) => remove(one, id, one.account.id)),
        { concurrency: 2 }
      )
      assert.deepStrictEqual(left.map(({ status }) => status).toSorted(), [204, 409])
    })
  )

  it.effect("do not let a member list or create keys of another member", () =>
    Effect.gen(function* () {
      const [owner, member] = yield* people
      const id = yield* organization(owner)
      yield* enroll(owner, id, member, "admin")
      for (const account_id of [owner.account.id, id]) {
        const { key } = member
        assert.strictEqual((yield* ask("POST", "/api/keys", { key, body: { name: "x", account_id } })).status, 403)
        assert.strictEqual((yield* ask("GET", `/api/keys?account_id=${account_id}`, { key })).status, 403)
      }
    })
  )

  it.effect("are found by an id in capital letters", () =>
    Effect.gen(function* () {
      const [owner, member] = yield* people
      const id = yield* organization(owner)
      yield* enroll(owner, id.toUpperCase(), {
        ...member,
        account: { id: member.account.id.toUpperCase() as AccountId }
      })
      assert.isTrue(yield* actsFor(member, id.toUpperCase()))
      assert.isTrue(yield* actsFor(member, member.account.id.toUpperCase()))
      assert.strictEqual((yield* members(owner, id)).json.members.length, 2)
    })
  )
})

/** A run that another member follows, and what that member reads. */
const following = Effect.gen(function* () {
  const [owner, member] = yield* people
  const id = yield* organization(owner)
  yield* enroll(owner, id, member)
  const started = yield* ask("POST", "/api/sandboxes", {
    key: owner.key,
    body: { command: "sleep", args: ["600"] }
  })
  const { runId } = started.json.sandboxes[0]
  const path = `/api/tasks/runs/${runId}/logs?account_id=${owner.account.id}`
  const log = yield* Effect.forkChild(ask("GET", path, { key: member.key }))
  yield* TestClock.adjust("1 minute")
  assert.isUndefined(log.pollUnsafe())
  return { owner, member, id, path, log }
})

layer(WebApi.layer)("A member who is removed", (it) => {
  it.effect("loses access at once, including the logs that it follows", () =>
    Effect.gen(function* () {
      const { id, log, member, owner, path } = yield* following
      assert.strictEqual((yield* remove(owner, id, member.account.id)).status, 204)
      const { text } = yield* Fiber.join(log)
      assert.include(text, "access_denied")
      assert.notInclude(text, "event: exit")
      assert.strictEqual((yield* ask("GET", path, { key: member.key })).status, 403)
    })
  )

  it.effect("loses the logs that it follows within 5 seconds if another server removed it", () =>
    Effect.gen(function* () {
      const { id, log, member } = yield* following
      const store = yield* IdentityStore
      const joined = yield* store.listOrganizations(AccountScope.ofOwner({ account: member.account.id }))
      const { organization } = joined[0]!
      assert.strictEqual(organization.id, id)
      yield* store.changeMember(AccountScope.ofOwner({ account: organization.id }), {
        actor: member.account.id,
        member: member.account.id,
        at: yield* DateTime.now,
        decide: () => Result.succeed(Option.none())
      })
      yield* TestClock.adjust("5 seconds")
      assert.include((yield* Fiber.join(log)).text, "access_denied")
    })
  )
})

layer(WebApi.layerWith({ access: "admins" }))("Where only owners and admins may act for others", (it) => {
  it.effect("a member can act only for itself, and an admin for all members", () =>
    Effect.gen(function* () {
      const [owner, admin, member] = yield* people
      const id = yield* organization(owner)
      yield* enroll(owner, id, admin, "admin")
      yield* enroll(owner, id, member)
      for (const account of [owner.account.id, admin.account.id, id]) assert.isFalse(yield* actsFor(member, account))
      for (const account of [owner.account.id, member.account.id, id]) assert.isTrue(yield* actsFor(admin, account))
      assert.isTrue(yield* actsFor(member, member.account.id))
      assert.strictEqual((yield* members(member, id)).status, 200)
    })
  )
})
