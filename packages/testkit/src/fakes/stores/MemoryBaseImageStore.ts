import { BaseImage, type ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { DateTime, Effect, Layer, Option } from "effect"

const nobody = { builder: null, leaseExpiresAt: null } as const

const isOver = (time: DateTime.Utc | null, now: DateTime.Utc) =>
  time === null || time.epochMilliseconds <= now.epochMilliseconds

const isBefore = (time: DateTime.Utc, limit: DateTime.Utc) => time.epochMilliseconds < limit.epochMilliseconds

/** Replaces the current snapshot by the next one, or by none. */
const replaced = ({ current, replaced }: BaseImage) => (current === null ? replaced : [...replaced, current])

/** Stores base images in memory. */
export const layer = Layer.sync(BaseImageStore, () => {
  const images = new Map<ImageKey, BaseImage>()

  const find = (key: ImageKey) => Option.fromUndefinedOr(images.get(key))

  const change = (image: BaseImage, change: Partial<BaseImage>) =>
    images.set(image.key, new BaseImage({ ...image, ...change }))

  /** Changes the image if the condition holds, and returns whether it did. */
  const changeIf = (key: ImageKey, is: (image: BaseImage) => boolean, to: (image: BaseImage) => Partial<BaseImage>) =>
    Effect.sync(() => {
      const image = Option.filter(find(key), is)
      if (Option.isSome(image)) change(image.value, to(image.value))
      return Option.isSome(image)
    })

  const isBuilt = (builder: SandboxName) => (image: BaseImage) => image.builder === builder

  return BaseImageStore.of({
    find: (key) => Effect.sync(() => find(key)),
    recordUse: (key, at) => {
      const usedAt = DateTime.startOf(at, "hour")
      return Effect.asVoid(
        changeIf(
          key,
          (image) => isBefore(image.usedAt, usedAt),
          () => ({ usedAt })
        )
      )
    },
    claimBuild: ({ account, builder, key, staleBefore, until }, now) =>
      Effect.sync(() => {
        const before = Option.getOrElse(find(key), () => {
          const nothing = { current: null, builtAt: null, ...nobody, failures: 0, retryAfter: null, error: null }
          return new BaseImage({ key, account, ...nothing, replaced: [], usedAt: DateTime.startOf(now, "hour") })
        })
        const isFree = isOver(before.leaseExpiresAt, now) && isOver(before.retryAfter, now)
        const isWanted = before.current === null || before.builtAt === null || isBefore(before.builtAt, staleBefore)
        if (!isFree || !isWanted) return Option.none()
        change(before, { builder, leaseExpiresAt: until })
        return Option.some(before)
      }),
    renewLease: (key, builder, until) => changeIf(key, isBuilt(builder), () => ({ leaseExpiresAt: until })),
    completeBuild: (key, builder, snapshot, at) =>
      changeIf(key, isBuilt(builder), (image) => ({
        ...nobody,
        current: snapshot,
        builtAt: at,
        failures: 0,
        retryAfter: null,
        error: null,
        replaced: replaced(image)
      })),
    failBuild: (key, builder, error, retryAfter) =>
      Effect.asVoid(
        changeIf(key, isBuilt(builder), ({ failures }) => ({ ...nobody, failures: failures + 1, error, retryAfter }))
      ),
    markLost: (key, snapshot) =>
      Effect.asVoid(
        changeIf(
          key,
          ({ current }) => current === snapshot,
          () => ({ current: null, builtAt: null })
        )
      ),
    listUnneeded: (now, unusedSince, limit) =>
      Effect.sync(() =>
        [...images.values()]
          .filter(
            ({ builder, leaseExpiresAt: builderUntil, current, replaced, usedAt }) =>
              replaced.length > 0 ||
              (builder !== null && isOver(builderUntil, now)) ||
              (current !== null && isBefore(usedAt, unusedSince))
          )
          .sort((a, b) => a.usedAt.epochMilliseconds - b.usedAt.epochMilliseconds)
          .slice(0, limit)
      ),
    dropReplaced: (key, snapshot) =>
      Effect.asVoid(
        changeIf(
          key,
          () => true,
          ({ replaced }) => ({ replaced: replaced.filter((id) => id !== snapshot) })
        )
      ),
    dropBuilder: (key, builder, now) =>
      Effect.asVoid(
        changeIf(
          key,
          (image) => image.builder === builder && isOver(image.leaseExpiresAt, now),
          () => nobody
        )
      ),
    retire: (key, unusedSince) =>
      Effect.asVoid(
        changeIf(
          key,
          ({ usedAt }) => isBefore(usedAt, unusedSince),
          (image) => ({ current: null, builtAt: null, replaced: replaced(image) })
        )
      )
  })
})
