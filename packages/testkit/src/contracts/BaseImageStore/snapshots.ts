import type { IdentityStore } from "@castellan/domain/identity/IdentityStore.ts"
import { BaseImage } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at } from "../fixtures.ts"
import type { Clauses } from "../contract.ts"
import { newSnapshot, newBuilder, hour, now, imageOf, newImage, claim, build, readImage } from "./fixtures.ts"

export const snapshots: Clauses<BaseImageStore | IdentityStore> = {
  "a lost snapshot is no longer current and is not listed as replaced": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const first = yield* build(image)
      const second = yield* build(image, now + 1)
      const built = yield* readImage(image)
      for (const other of [first, newSnapshot()]) yield* store.markLost(image.key, other)
      assert.deepStrictEqual(yield* readImage(image), built)
      yield* store.markLost(image.key, second)
      const without = new BaseImage({ ...built, current: null, builtAt: null })
      assert.deepStrictEqual(yield* readImage(image), without)
      assert.isTrue(Option.isSome(yield* claim(image, newBuilder(), now + 2, 0)))
    }),

  "use is recorded to the hour and never moves back": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const [image, other] = [yield* newImage, yield* newImage]
      yield* store.recordUse(image.key, at(now))
      assert.isTrue(Option.isNone(yield* store.find(image.key)))
      for (const one of [image, other]) yield* build(one)
      const built = yield* readImage(image)
      const usedAt = Effect.map(readImage(image), (now) => now.usedAt)
      yield* store.recordUse(image.key, at(now + hour - 1))
      assert.deepStrictEqual(yield* readImage(image), built)
      yield* store.recordUse(image.key, at(now + 2 * hour + 59_000))
      assert.deepStrictEqual(yield* readImage(image), new BaseImage({ ...built, usedAt: at(now + 2 * hour) }))
      yield* store.recordUse(image.key, at(now + hour))
      assert.deepStrictEqual(yield* usedAt, at(now + 2 * hour))
      assert.deepStrictEqual((yield* readImage(other)).usedAt, at(now))
    }),

  "listUnneeded returns images with replaced snapshots, expired builders or snapshots long unused": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      // Earlier than the images of all other clauses, so that those come later and do not count.
      const past = -100 * hour
      const image = Effect.fnUntraced(function* (usedAt: number) {
        const scope = yield* given.scope
        return imageOf(scope, { usedAt: at(past + usedAt * hour) })
      })
      const begin = (of: BaseImage, builder = newBuilder()) => claim(of, builder, of.usedAt.epochMilliseconds)
      const [replaced, givenUp, unused] = [yield* image(2), yield* image(1), yield* image(0)]
      const [good, building, retired, failed] = [yield* image(4), yield* image(4), yield* image(0), yield* image(0)]
      for (const one of [replaced, replaced, unused, good, retired]) {
        yield* build(one, one.usedAt.epochMilliseconds)
      }
      yield* begin(givenUp)
      yield* begin(building)
      const builder = newBuilder()
      yield* begin(failed, builder)
      yield* store.failBuild(failed.key, builder, "it broke", at(past))
      const lost = Option.getOrThrow(yield* store.find(retired.key)).current!
      yield* store.retire(retired.key, at(past + hour))
      yield* store.dropReplaced(retired.key, lost)
      const [whenOver, since] = [at(past + hour + 10_000), at(past + 3 * hour)]
      const keys = [unused, givenUp, replaced].map(({ key }) => key)
      const listed = (limit: number) =>
        Effect.map(store.listUnneeded(whenOver, since, limit), (all) => all.map(({ key }) => key))
      assert.deepStrictEqual((yield* listed(100)).slice(0, 3), keys)
      assert.deepStrictEqual(yield* listed(2), keys.slice(0, 2))
      const all = yield* store.listUnneeded(whenOver, since, 100)
      assert.deepStrictEqual(all[2], yield* readImage(replaced))
      const others = new Set(all.map(({ key }) => key))
      for (const one of [good, building, retired, failed]) assert.isFalse(others.has(one.key))
      const early = yield* store.listUnneeded(at(past + hour + 9_999), at(past), 100)
      assert.deepStrictEqual(early[0]?.key, replaced.key)
      for (const key of [keys[0]!, keys[1]!])
        assert.notInclude(
          early.map((one) => one.key),
          key
        )
    }),

  "dropReplaced forgets the named replaced snapshot only": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const snapshots = [yield* build(image, now), yield* build(image, now + 1), yield* build(image, now + 2)]
      const built = yield* readImage(image)
      assert.deepStrictEqual(built.replaced, snapshots.slice(0, 2))
      for (const one of [snapshots[0]!, snapshots[0]!, snapshots[2]!]) yield* store.dropReplaced(image.key, one)
      assert.deepStrictEqual(yield* readImage(image), new BaseImage({ ...built, replaced: [snapshots[1]!] }))
    }),

  "dropBuilder forgets the named builder once its lease has expired": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const builder = newBuilder()
      yield* claim(image, builder)
      const begun = yield* readImage(image)
      yield* store.dropBuilder(image.key, builder, at(now + 9_999))
      yield* store.dropBuilder(image.key, newBuilder(), at(now + 20_000))
      assert.deepStrictEqual(yield* readImage(image), begun)
      yield* store.dropBuilder(image.key, builder, at(now + 10_000))
      assert.deepStrictEqual(yield* readImage(image), image)
    }),

  "retire moves the snapshot of an image that is long unused to the replaced ones": () =>
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const image = yield* newImage
      const snapshot = yield* build(image)
      const built = yield* readImage(image)
      yield* store.retire(image.key, at(now))
      assert.deepStrictEqual(yield* readImage(image), built)
      yield* store.retire(image.key, at(now + 1))
      yield* store.retire(image.key, at(now + 2))
      const retired = new BaseImage({ ...image, replaced: [snapshot] })
      assert.deepStrictEqual(yield* readImage(image), retired)
    })
}
