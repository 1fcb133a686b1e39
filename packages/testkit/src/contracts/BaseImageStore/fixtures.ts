import type { AccountScope } from "@castellan/domain/identity/AccountScope.ts"
import { BaseImage, ImageKey } from "@castellan/domain/sandbox/BaseImage.ts"
import { BaseImageStore } from "@castellan/domain/sandbox/BaseImageStore.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert } from "@effect/vitest"
import { Effect, Option } from "effect"
import * as given from "../../given.ts"
import { at, unique } from "../fixtures.ts"

export const newSnapshot = () => SnapshotId.make(unique())

export const newBuilder = () => SandboxName.make(`img_${unique()}`)

export const hour = 3_600_000

/** The current time in these clauses: on the hour. */
export const now = 1_000_000 * hour

export const nothing = {
  current: null,
  builtAt: null,
  builder: null,
  leaseExpiresAt: null,
  failures: 0,
  retryAfter: null
}

export const imageOf = (scope: AccountScope, more: Partial<BaseImage> = {}) =>
  new BaseImage({
    key: ImageKey.make(`${scope.account}/${unique()}`),
    account: scope.account,
    ...nothing,
    error: null,
    replaced: [],
    usedAt: at(now),
    ...more
  })

export const newImage = Effect.map(given.scope, (scope) => imageOf(scope))

/** Claims an image for ten seconds, by default whether or not it is stale. */
export const claim = (image: BaseImage, builder: SandboxName, time = now, staleBefore = time + 1) =>
  Effect.flatMap(BaseImageStore, (store) =>
    store.claimBuild(
      {
        key: image.key,
        account: image.account,
        builder,
        until: at(time + 10_000),
        staleBefore: at(staleBefore)
      },
      at(time)
    )
  )

/** Claims an image, completes its build and returns the snapshot. */
export const build = Effect.fnUntraced(function* (image: BaseImage, time = now) {
  const [builder, snapshot] = [newBuilder(), newSnapshot()]
  yield* claim(image, builder, time)
  assert.isTrue(yield* (yield* BaseImageStore).completeBuild(image.key, builder, snapshot, at(time)))
  return snapshot
})

export const readImage = ({ key }: BaseImage) =>
  Effect.flatMap(BaseImageStore, (store) => Effect.map(store.find(key), Option.getOrThrow))
