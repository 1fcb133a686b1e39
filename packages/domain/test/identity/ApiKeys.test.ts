import { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { ApiKeys, type IssuedKey } from "@castellan/domain/identity/ApiKeys.ts"
import { CredentialWatch } from "@castellan/domain/identity/CredentialWatch.ts"
import { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { crashAtEachCall } from "@castellan/testkit/crashAtEachCall.ts"
import * as Faults from "@castellan/testkit/Faults.ts"
import * as World from "@castellan/testkit/World.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Option, Redacted, Result } from "effect"
import { TestClock } from "effect/testing"

const world = Layer.mergeAll(World.layer, World.crypto, Faults.Faults.layer)
const life = ApiKeys.layer({ secret: Redacted.make(new Uint8Array(32)) }).pipe(
  Layer.provideMerge(CredentialWatch.layer),
  Layer.provideMerge(Faults.around(IdentityStore, "IdentityStore")),
  Layer.provideMerge(World.crypto)
)
const services = life.pipe(Layer.provideMerge(world))

const works = Effect.fnUntraced(function* ({ secret }: IssuedKey) {
  return Result.isSuccess(yield* Effect.result((yield* ApiKeys).authenticate(secret)))
})

const firstStart = Effect.gen(function* () {
  return Option.getOrThrow(yield* (yield* ApiKeys).ensurePlatformAdmin(Option.none()))
})

const reset = Effect.flatMap(ApiKeys, (keys) => keys.resetPlatformAdminKey)

describe("A reset of the platform admin's key", () => {
  it.effect("issues a valid key, and revokes the key of the first start", () =>
    Effect.gen(function* () {
      const first = yield* firstStart
      const { issued, kept } = yield* reset
      assert.deepStrictEqual([yield* works(issued), yield* works(first), kept], [true, false, []])
      assert.strictEqual(issued.key.account, first.key.account)
    }).pipe(Effect.provide(services))
  )

  it.effect("revokes the keys of earlier resets, and lists the other valid keys", () =>
    Effect.gen(function* () {
      const keys = yield* ApiKeys
      const first = yield* firstStart
      const own = yield* keys.issue(AccountScope.ofOwner({ account: first.key.account }), {
        name: "ci",
        expiresAt: null
      })
      yield* keys.ensurePlatformAdmin(Option.some(Redacted.make("a-configured-key-0000000000")))
      const earlier = yield* reset
      yield* TestClock.adjust("61 seconds")
      const later = yield* reset
      assert.deepStrictEqual(
        [yield* works(earlier.issued), yield* works(later.issued), yield* works(own)],
        [false, true, true]
      )
      assert.deepStrictEqual(later.kept.map(({ name }) => name).sort(), ["ci", "configured"])
    }).pipe(Effect.provide(services))
  )

  it.effect("issues a valid key to each of several concurrent callers", () =>
    Effect.gen(function* () {
      const first = yield* firstStart
      const resets = yield* Effect.all([reset, reset, reset], { concurrency: "unbounded" })
      for (const { issued } of resets) assert.isTrue(yield* works(issued))
      assert.isFalse(yield* works(first))
    }).pipe(Effect.provide(services))
  )

  it.effect("can be repeated after it was killed at any step, and leaves a valid key at every moment", () =>
    Effect.gen(function* () {
      const calls = yield* crashAtEachCall({
        world,
        server: life,
        prepare: () => firstStart,
        act: () => reset,
        verify: (_, when, first) =>
          Effect.gen(function* () {
            const store = yield* IdentityStore
            const keys = yield* store.listKeys(AccountScope.ofOwner({ account: first.key.account }))
            assert.isAbove(keys.length, 0, when)
            const { issued } = yield* reset
            assert.deepStrictEqual([yield* works(issued), yield* works(first)], [true, false], when)
          })
      })
      assert.deepStrictEqual(calls, [
        "IdentityStore.findPlatformAdmin",
        "IdentityStore.addKey",
        "IdentityStore.listKeys",
        "IdentityStore.removeKey"
      ])
    })
  )

  it.effect("fails and creates nothing if no server has started yet", () =>
    Effect.gen(function* () {
      const { _tag } = yield* Effect.flip(reset)
      assert.strictEqual(_tag, "PlatformAdminMissing")
      assert.isTrue(Option.isNone(yield* (yield* IdentityStore).findPlatformAdmin))
    }).pipe(Effect.provide(services))
  )
})
