import { Access } from "@castellan/domain/identity/Access.ts"
import { type Account, AccountId } from "@castellan/domain/identity/Account.ts"
import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { ApiKeyId } from "@castellan/domain/identity/ApiKey.ts"
import { CurrentCredential, ofAccount } from "@castellan/domain/identity/Credential.ts"
import { CredentialWatch } from "@castellan/domain/identity/CredentialWatch.ts"
import { CurrentActor } from "@castellan/domain/identity/CurrentActor.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { Organizations } from "@castellan/domain/identity/Organizations.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import * as given from "@castellan/testkit/given.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, layer } from "@effect/vitest"
import { Effect, Fiber, Layer, Option } from "effect"
import { TestClock } from "effect/testing"

const services = Organizations.layer.pipe(
  Layer.provideMerge(Access.layer({ policy: "peers" })),
  Layer.provideMerge(CredentialWatch.layer),
  Layer.provideMerge(Faults.around(IdentityStore, "IdentityStore")),
  Layer.provideMerge(Layer.mergeAll(World.layer, World.crypto, Faults.Faults.layer))
)

const as =
  (actor: Account) =>
  <A, E, R>(effect: Effect.Effect<A, E, R | CurrentActor | CurrentCredential>) =>
    effect.pipe(Effect.provideService(CurrentActor, actor), Effect.provideService(CurrentCredential, ofAccount(actor)))

/** An owner and a member of an organization. */
const peers = Effect.gen(function* () {
  const organizations = yield* Organizations
  const [owner, member] = [yield* given.account(), yield* given.account()]
  const organization = yield* as(owner)(organizations.create({ name: "o", nonce: Option.none() }))
  yield* as(owner)(organizations.invite(organization.id, { account: member.id, role: null }))
  yield* as(member)(organizations.accept(organization.id))
  return { owner, member, organization }
})

/** The calls of the store that an effect makes. */
const callsOf = Effect.fnUntraced(function* <A, E, R>(effect: Effect.Effect<A, E, R>) {
  const { calls } = yield* Faults.Faults
  const before = calls.length
  yield* effect
  return calls.slice(before)
})

layer(services)("Access to an account", (it) => {
  it.effect("costs one query, and none for the actor's own account", () =>
    Effect.gen(function* () {
      const access = yield* Access
      const { member, organization, owner } = yield* peers
      for (const target of [null, undefined, member.id]) {
        assert.deepStrictEqual(yield* callsOf(as(member)(access.scopeOf(target))), [])
      }
      for (const target of [owner.id, organization.id]) {
        const calls = yield* callsOf(as(member)(access.scopeOf(target)))
        assert.deepStrictEqual(calls, ["IdentityStore.relationshipBetween"])
      }
    })
  )

  it.effect("does not include the keys of a peer, except for a platform admin", () =>
    Effect.gen(function* () {
      const access = yield* Access
      const { member, owner } = yield* peers
      const admin = yield* given.account({ platformAdmin: true })
      assert.strictEqual((yield* Effect.flip(as(member)(access.scopeOfOwn(owner.id))))._tag, "AccountForbidden")
      assert.strictEqual((yield* as(member)(access.scopeOfOwn(null))).account, member.id)
      assert.strictEqual((yield* as(admin)(access.scopeOfOwn(owner.id))).account, owner.id)
    })
  )

  it.effect("is lost when either of two peers leaves, and not when another member leaves", () =>
    Effect.gen(function* () {
      const access = yield* Access
      const organizations = yield* Organizations
      for (const leaves of ["actor", "target"] as const) {
        const { member, organization, owner } = yield* peers
        const second = yield* given.account()
        const bystander = yield* given.account()
        for (const account of [second, bystander]) {
          yield* as(owner)(organizations.invite(organization.id, { account: account.id, role: null }))
          yield* as(account)(organizations.accept(organization.id))
        }
        const scope = yield* as(member)(access.scopeOf(second.id))
        const lost = yield* Effect.forkChild(as(member)(access.untilLost(scope)))
        yield* as(bystander)(organizations.remove(organization.id, bystander.id))
        yield* TestClock.adjust("1 minute")
        assert.isUndefined(lost.pollUnsafe())
        const leaver = leaves === "actor" ? member : second
        yield* as(leaver)(organizations.remove(organization.id, leaver.id))
        assert.strictEqual((yield* Effect.flip(Fiber.join(lost)))._tag, "AccountForbidden")
      }
    })
  )

  it.effect("to the actor's own account is never lost", () =>
    Effect.gen(function* () {
      const access = yield* Access
      const { member, organization } = yield* peers
      const own = yield* Effect.forkChild(as(member)(access.untilLost(yield* as(member)(AccountScope.own))))
      yield* as(member)((yield* Organizations).remove(organization.id, member.id))
      const calls = yield* callsOf(TestClock.adjust("1 minute"))
      assert.deepStrictEqual([...new Set(calls)], ["IdentityStore.findExisting"])
      assert.isUndefined(own.pollUnsafe())
    })
  )

  it.effect("is reported lost at once if it was lost before the wait", () =>
    Effect.gen(function* () {
      const access = yield* Access
      const { member, organization, owner } = yield* peers
      const scope = yield* as(member)(access.scopeOf(owner.id))
      yield* as(owner)((yield* Organizations).remove(organization.id, member.id))
      assert.strictEqual((yield* Effect.flip(as(member)(access.untilLost(scope))))._tag, "AccountForbidden")
    })
  )

  it.effect("is lost at once if the credential was revoked or its account deleted before the wait", () =>
    Effect.gen(function* () {
      const access = yield* Access
      const { member } = yield* peers
      const removed = yield* given.account()
      const scope = yield* as(member)(AccountScope.own)
      for (const credential of [
        { ...ofAccount(member), key: ApiKeyId.make("key_revoked") },
        { ...ofAccount(removed), account: AccountId.make("00000000-0000-4000-8000-00000000dead") }
      ]) {
        const lost = access.untilLost(scope).pipe(Effect.provideService(CurrentCredential, credential), as(member))
        assert.strictEqual((yield* Effect.flip(lost))._tag, "InvalidCredential")
      }
    })
  )
})
