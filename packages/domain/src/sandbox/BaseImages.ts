import { Context, DateTime, Duration, Effect, Layer, Option, Schema } from "effect"
import { SecureRandom } from "effect/crypto/SecureRandom"
import type { AccountId } from "../identity/Account.ts"
import { newExpiry, whileRenewing } from "../lifecycle/Lease.ts"
import { retryDelay } from "../lifecycle/RetryPolicy.ts"
import { newNonce } from "../newNonce.ts"
import { type BaseImage, type ImageKey, buildRetry, rebuiltAfter, unusedKept } from "./BaseImage.ts"
import { BaseImageStore } from "./BaseImageStore.ts"
import { SandboxName } from "./SandboxName.ts"
import { providerReason } from "./providerReason.ts"
import { SandboxProvider, type SandboxUnavailable } from "./SandboxProvider.ts"
import type { SnapshotId } from "./Snapshot.ts"

/** The lease of a builder. */
export const buildLease = Duration.seconds(30)

/** Lifetime of a builder's sandbox. */
export const buildTime = Duration.minutes(20)

const rowsAPass = 100

/** An image could not be prepared. `reason` is a sentence for the owners of sandboxes that boot from it. */
export class ImageNotBuilt extends Schema.TaggedError<ImageNotBuilt>()("ImageNotBuilt", { reason: Schema.String }) {}

export interface ImageToBuild<E, R> {
  readonly key: ImageKey
  /** The account that may boot from it; null for all accounts. */
  readonly account: AccountId | null
  /** Whether its preparation needs the package registry. */
  readonly registry?: boolean
  /** Puts the image's content into a new sandbox. */
  readonly prepare: (builder: SandboxName) => Effect.Effect<void, E, R>
  /** Describes a failure of `prepare`, for the owners of sandboxes that boot from the image. */
  readonly explain: (failure: E) => string
}

/** Builds, caches and replaces the prepared snapshots from which many sandboxes boot. */
export class BaseImages extends Context.Service<
  BaseImages,
  {
    /** The image as stored; none if no build was ever started. */
    readonly find: (key: ImageKey) => Effect.Effect<Option.Option<BaseImage>>
    /** Records that a sandbox boots from it. */
    readonly recordUse: (key: ImageKey) => Effect.Effect<void>
    /** Records that the provider no longer has the image's snapshot, so that the next `build` rebuilds it. */
    readonly markLost: (key: ImageKey, snapshot: SnapshotId) => Effect.Effect<void>
    /**
     * Builds the image unless it is current or a build is running. The previous snapshot is used until the build
     * succeeds. Returns the new snapshot; none if nothing was built.
     */
    readonly build: <E, R>(
      wanted: ImageToBuild<E, R>
    ) => Effect.Effect<Option.Option<SnapshotId>, ImageNotBuilt | SandboxUnavailable, R>
    /**
     * Removes the leftovers of dead builders, replaced snapshots and unused images. Returns the number of images it
     * handled.
     */
    readonly collect: Effect.Effect<number, SandboxUnavailable>
  }
>()("domain/sandbox/BaseImages") {
  static readonly layer = Layer.effect(
    BaseImages,
    Effect.gen(function* () {
      const store = yield* BaseImageStore
      const provider = yield* SandboxProvider
      const random = yield* SecureRandom

      /** Removes a builder's sandbox and its snapshots, except for one. */
      const clear = Effect.fnUntraced(function* (builder: SandboxName, except: SnapshotId | null) {
        yield* provider.remove(builder)
        for (const { id } of yield* provider.snapshots(builder)) {
          if (id !== except) yield* provider.removeSnapshot(id)
        }
      })

      /** Removes a builder whose lease has expired, and clears it from the row only afterwards. */
      const dismiss = Effect.fnUntraced(function* (
        { builder, leaseExpiresAt: builderUntil, current, key }: BaseImage,
        now: DateTime.Utc
      ) {
        if (builder === null || builderUntil === null || DateTime.isGreaterThan(builderUntil, now)) return
        yield* clear(builder, current)
        yield* store.dropBuilder(key, builder, now)
      })

      const removeReplaced = Effect.fnUntraced(function* (image: BaseImage) {
        for (const snapshot of image.replaced) {
          yield* provider.removeSnapshot(snapshot)
          yield* store.dropReplaced(image.key, snapshot)
        }
      })

      const renewLease = (key: ImageKey, builder: SandboxName) =>
        Effect.flatMap(newExpiry(buildLease), (expiresAt) => store.renewLease(key, builder, expiresAt))

      const prepared = Effect.fnUntraced(function* <E, R>(wanted: ImageToBuild<E, R>, builder: SandboxName) {
        const { registry } = wanted
        yield* provider
          .create({
            name: builder,
            from: Option.none(),
            lifetime: buildTime,
            ...(registry !== undefined && { registry })
          })
          .pipe(Effect.catchTag("SnapshotGone", Effect.die))
        yield* wanted
          .prepare(builder)
          .pipe(Effect.mapError((failure) => new ImageNotBuilt({ reason: wanted.explain(failure) })))
        const { id } = yield* provider
          .snapshot(builder)
          .pipe(Effect.catchTag("SandboxGone", () => new ImageNotBuilt({ reason: "The sandbox stopped too early" })))
        return id
      })

      const build = Effect.fn("BaseImages.build")(function* <E, R>(wanted: ImageToBuild<E, R>) {
        const now = yield* DateTime.now
        const builder = SandboxName.make(`img_${yield* newNonce(random)}`)
        const until = DateTime.addDuration(now, buildLease)
        const staleBefore = DateTime.subtractDuration(now, rebuiltAfter)
        const { account, key } = wanted
        // A claim overwrites the previous builder, so that one's leftovers must be removed first.
        const known = yield* store.find(key)
        if (Option.isSome(known)) yield* dismiss(known.value, now)
        const before = yield* store.claimBuild({ key, account, builder, until, staleBefore }, now)
        if (Option.isNone(before)) return Option.none<SnapshotId>()
        if (before.value.builder !== null) yield* Effect.ignore(clear(before.value.builder, before.value.current))
        const snapshot = yield* whileRenewing(prepared(wanted, builder), {
          lease: buildLease,
          renew: renewLease(key, builder),
          lost: Effect.fail(new ImageNotBuilt({ reason: "Another build took its place" }))
        }).pipe(
          Effect.tapError((failure) =>
            Effect.gen(function* () {
              const reason = failure._tag === "ImageNotBuilt" ? failure.reason : providerReason(failure).sentence
              const retryAfter = DateTime.addDuration(
                yield* DateTime.now,
                retryDelay(buildRetry, before.value.failures + 1)
              )
              // If the removal fails, the row keeps the builder. It is removed once its lease has expired.
              yield* clear(builder, null).pipe(
                Effect.andThen(store.failBuild(key, builder, reason, retryAfter)),
                Effect.ignore
              )
            })
          )
        )
        // Remove the sandbox first: a row with a new snapshot no longer names its builder.
        yield* provider.remove(builder)
        if (!(yield* store.completeBuild(key, builder, snapshot, yield* DateTime.now))) {
          yield* provider.removeSnapshot(snapshot)
          return Option.none<SnapshotId>()
        }
        const image = yield* store.find(key)
        if (Option.isSome(image)) yield* Effect.ignore(removeReplaced(image.value))
        return Option.some(snapshot)
      })

      const collect = Effect.gen(function* () {
        const now = yield* DateTime.now
        const unusedSince = DateTime.subtractDuration(now, unusedKept)
        const images = yield* store.listUnneeded(now, unusedSince, rowsAPass)
        for (const image of images) {
          yield* dismiss(image, now)
          yield* store.retire(image.key, unusedSince)
          const retired = yield* store.find(image.key)
          if (Option.isSome(retired)) yield* removeReplaced(retired.value)
        }
        return images.length
      }).pipe(Effect.withSpan("BaseImages.collect"))

      return BaseImages.of({
        find: store.find,
        recordUse: (key) => Effect.flatMap(DateTime.now, (now) => store.recordUse(key, now)),
        markLost: store.markLost,
        build,
        collect
      })
    })
  )
}
