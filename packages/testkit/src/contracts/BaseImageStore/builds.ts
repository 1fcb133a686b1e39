import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { BaseImage, ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import { assertUnchanged } from "../assertUnchanged.ts"
import { at, unique, atOnce } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { newSnapshot, newBuilder, hour, now, newImage, claim, build, readImage } from "./fixtures.ts"

export const builds: Clauses<BaseImageStore | IdentityStore> = {
  "an image is found by its key as it was claimed, with the hour of its use": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const [one, two] = [yield* newImage, yield* newImage]
      assert.isTrue(Option.isNone(yield* store.find(one.key)))
      const builder = newBuilder()
      assert.deepStrictEqual(yield* claim(one, builder, now + 7), Option.some(one))
      const begun = new BaseImage({ ...one, builder, leaseExpiresAt: at(now + 10_007) })
      assert.deepStrictEqual(yield* store.find(one.key), Option.some(begun))
      assert.isTrue(Option.isNone(yield* store.find(two.key)))
    }),

  "an image may belong to no account": () =>
    Effect.gen(function* () {
      const mine = yield* newImage
      const image = new BaseImage({ ...mine, key: ImageKey.make(`everybody/${unique()}`), account: null })
      const builder = newBuilder()
      assert.deepStrictEqual(yield* claim(image, builder), Option.some(image))
      assert.deepStrictEqual(
        yield* readImage(image),
        new BaseImage({ ...image, builder, leaseExpiresAt: at(now + 10_000) })
      )
      const snapshot = newSnapshot()
      assert.isTrue(yield* (yield* BaseImageStore).completeBuild(image.key, builder, snapshot, at(now)))
      const built = new BaseImage({ ...image, current: snapshot, builtAt: at(now) })
      assert.deepStrictEqual(yield* claim(image, newBuilder(), now + 10_000), Option.some(built))
    }),

  "a claim returns the previous image with its abandoned builder": () =>
    Effect.gen(function* () {
      const image = yield* newImage
      const [first, second] = [newBuilder(), newBuilder()]
      yield* build(image)
      const before = yield* readImage(image)
      assert.deepStrictEqual(yield* claim(image, first), Option.some(before))
      const begun = new BaseImage({ ...before, builder: first, leaseExpiresAt: at(now + 10_000) })
      assert.deepStrictEqual(yield* readImage(image), begun)
      assert.deepStrictEqual(yield* claim(image, second, now + 10_000), Option.some(begun))
      const again = new BaseImage({ ...before, builder: second, leaseExpiresAt: at(now + 20_000) })
      assert.deepStrictEqual(yield* readImage(image), again)
    }),

  "a claim is refused during a build, before the retry time of a failure, and while the image is not stale": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const builder = newBuilder()
      const isRefused = Effect.fnUntraced(function* (time: number, staleBefore?: number) {
        const before = yield* readImage(image)
        if (Option.isSome(yield* claim(image, newBuilder(), time, staleBefore))) return false
        assert.deepStrictEqual(yield* readImage(image), before)
        return true
      })
      yield* claim(image, builder)
      assert.isTrue(yield* isRefused(now + 9_999))
      yield* store.failBuild(image.key, builder, "it broke", at(now + 20_000))
      assert.isTrue(yield* isRefused(now + 19_999))
      assert.isFalse(yield* isRefused(now + 20_000))
      yield* build(image, now + 30_000)
      assert.isTrue(yield* isRefused(now + 40_000, now + 30_000))
      assert.isFalse(yield* isRefused(now + 40_000, now + 30_001))
    }),

  "one of several concurrent claims succeeds": () =>
    Effect.gen(function* () {
      for (let round = 0; round < 5; round++) {
        const image = yield* newImage
        for (const time of [now, now + 10_000]) {
          const builders = Array.from({ length: 10 }, newBuilder)
          const got = yield* atOnce(builders.map((builder) => claim(image, builder, time)))
          const [winner, ...others] = builders.filter((_, i) => Option.isSome(got[i]!))
          assert.deepStrictEqual(others, [])
          assert.strictEqual((yield* readImage(image)).builder, winner)
        }
      }
    }),

  "the current builder renews its lease, and no other builder does": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const [first, second] = [newBuilder(), newBuilder()]
      assert.isFalse(yield* store.renewLease(image.key, first, at(now)))
      yield* claim(image, first)
      assert.isTrue(yield* store.renewLease(image.key, first, at(now + 15_000)))
      assert.deepStrictEqual((yield* readImage(image)).leaseExpiresAt, at(now + 15_000))
      assert.isFalse(yield* store.renewLease(image.key, second, at(now + 16_000)))
      assert.isTrue(Option.isNone(yield* claim(image, second, now + 14_999)))
      assert.isTrue(Option.isSome(yield* claim(image, second, now + 15_000)))
      const before = yield* readImage(image)
      assert.isFalse(yield* store.renewLease(image.key, first, at(now + 30_000)))
      assert.deepStrictEqual(yield* readImage(image), before)
    }),

  "a finished build becomes current if its builder is, and the previous snapshot becomes replaced": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const [first, second] = [newBuilder(), newBuilder()]
      const [one, two] = [newSnapshot(), newSnapshot()]
      assert.isFalse(yield* store.completeBuild(image.key, first, one, at(now)))
      yield* claim(image, first)
      yield* store.failBuild(image.key, first, "it broke", at(now))
      yield* claim(image, first)
      assert.isFalse(yield* store.completeBuild(image.key, second, two, at(now + 1)))
      assert.isTrue(yield* store.completeBuild(image.key, first, one, at(now + 1)))
      const built = new BaseImage({ ...image, current: one, builtAt: at(now + 1) })
      assert.deepStrictEqual(yield* readImage(image), built)
      assert.isFalse(yield* store.completeBuild(image.key, first, newSnapshot(), at(now + 2)))
      yield* claim(image, second, now + 2, now + 2)
      assert.isTrue(yield* store.completeBuild(image.key, second, two, at(now + 3)))
      const rebuilt = new BaseImage({ ...built, current: two, builtAt: at(now + 3), replaced: [one] })
      assert.deepStrictEqual(yield* readImage(image), rebuilt)
    }),

  "a failed build is recorded if its builder is current, and the last good snapshot stays": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const [first, second] = [newBuilder(), newBuilder()]
      yield* store.failBuild(image.key, first, "not claimed", at(now))
      assert.isTrue(Option.isNone(yield* store.find(image.key)))
      yield* build(image)
      const good = yield* readImage(image)
      yield* claim(image, first)
      yield* store.failBuild(image.key, second, "another builder", at(now + 9))
      assert.strictEqual((yield* readImage(image)).builder, first)
      yield* store.failBuild(image.key, first, "it bröke", at(now + 5))
      const failed = new BaseImage({ ...good, failures: 1, error: "it bröke", retryAfter: at(now + 5) })
      assert.deepStrictEqual(yield* readImage(image), failed)
      yield* store.failBuild(image.key, first, "once more", at(now + 9))
      assert.deepStrictEqual(yield* readImage(image), failed)
      assert.deepStrictEqual(yield* claim(image, second, now + 5), Option.some(failed))
      yield* store.failBuild(image.key, second, "again", at(now + 20))
      const again = new BaseImage({ ...good, failures: 2, error: "again", retryAfter: at(now + 20) })
      assert.deepStrictEqual(yield* readImage(image), again)
    }),

  "a write does not change any other image": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const [image, other, building] = [yield* newImage, yield* newImage, yield* newImage]
      const [builder, first, second] = [newBuilder(), newSnapshot(), newSnapshot()]
      /** Another image with the same builder and snapshots, which differs only in its key. */
      for (const snapshot of [first, second]) {
        yield* claim(other, builder)
        yield* store.completeBuild(other.key, builder, snapshot, at(now))
      }
      yield* claim(other, builder)
      yield* claim(building, builder)
      const rows = { built: store.find(other.key), building: store.find(building.key) }
      const later = now + 20_000
      yield* assertUnchanged(rows, {
        claim: claim(image, builder),
        renew: store.renewLease(image.key, builder, at(now + 15_000)),
        failed: store.failBuild(image.key, builder, "it broke", at(now)),
        "claim again": claim(image, builder),
        built: store.completeBuild(image.key, builder, first, at(now)),
        "claim a third time": claim(image, builder),
        "built again": store.completeBuild(image.key, builder, second, at(now)),
        dropReplaced: store.dropReplaced(image.key, first),
        lost: store.markLost(image.key, second),
        "claim a fourth time": claim(image, builder),
        dropBuilder: store.dropBuilder(image.key, builder, at(later)),
        used: store.recordUse(image.key, at(now + 2 * hour)),
        retire: store.retire(image.key, at(now + 3 * hour))
      })
      assert.deepStrictEqual((yield* readImage(image)).usedAt, at(now + 2 * hour))
    }),

  "a text with a NUL character can be written": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const builder = newBuilder()
      yield* claim(image, builder)
      yield* store.failBuild(image.key, builder, "a\0b", at(now))
      assert.strictEqual((yield* readImage(image)).error?.replaceAll("\0", "\uFFFD"), "a\uFFFDb")
    })
}
