/** Builds and replaces base images: prepared snapshots that many sandboxes boot from. */
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

/** How long the lease of a build lasts without a renewal. */
export const buildLease = Duration.seconds(30)

/** The lifetime of a builder: the sandbox in which an image is prepared. */
export const buildTime = Duration.minutes(20)

/** Images that one `collect` cleans up. */
const rowsAPass = 100

/** An image could not be prepared; `reason` is a sentence for the owners of sandboxes that boot from it. */
export class ImageNotBuilt extends Schema.TaggedError<ImageNotBuilt>()("ImageNotBuilt", { reason: Schema.String }) {}

export interface ImageToBuild<E, R> {
  readonly key: ImageKey
  /** The account or organization whose sandboxes boot from it; null where every account's do. */
  readonly account: AccountId | null
  /** Whether the builder needs the package registry. */
  readonly registry?: boolean
  /** Prepares a new sandbox, whose snapshot becomes the image. */
  readonly prepare: (builder: SandboxName) => Effect.Effect<void, E, R>
  /** The reason of a failure of `prepare`, as a sentence for the owners of sandboxes that boot from the image. */
  readonly explain: (failure: E) => string
}

export class BaseImages extends Context.Service<
  BaseImages,
  {
    /** The image and the state of its build; none where no build was ever started. */
    readonly find: (key: ImageKey) => Effect.Effect<Option.Option<BaseImage>>
    /** Records that a sandbox boots from the image. */
    readonly recordUse: (key: ImageKey) => Effect.Effect<void>
    /** Records that the provider no longer has the image's snapshot, so that the next `build` builds another. */
    readonly markLost: (key: ImageKey, snapshot: SnapshotId) => Effect.Effect<void>
    /**
     * Builds the image where it is missing or old, no other build is running and no failed build delays it. Sandboxes
     * boot from the previous snapshot until the build succeeds. Gives the new snapshot; none where nothing was built.
     */
    readonly build: <E, R>(
      wanted: ImageToBuild<E, R>
    ) => Effect.Effect<Option.Option<SnapshotId>, ImageNotBuilt | SandboxUnavailable, R>
    /** Removes dead builders, replaced snapshots and unused images; gives the number of images it cleaned up. */
    readonly collect: Effect.Effect<number, SandboxUnavailable>
  }
>()("domain/sandbox/BaseImages") {
  static readonly layer = Layer.suspend(() => Layer.effect(BaseImages, make))
}

/** The ports of the functions below. */
interface Services {
  readonly store: BaseImageStore["Service"]
  readonly provider: SandboxProvider["Service"]
  readonly random: SecureRandom["Service"]
}

const make = Effect.gen(function* () {
  const services: Services = {
    store: yield* BaseImageStore,
    provider: yield* SandboxProvider,
    random: yield* SecureRandom
  }
  const { store } = services
  return BaseImages.of({
    find: store.find,
    recordUse: (key) => Effect.flatMap(DateTime.now, (now) => store.recordUse(key, now)),
    markLost: store.markLost,
    build: (wanted) => build(services, wanted),
    collect: collect(services)
  })
})

/** Removes a builder and its snapshots, except the image's current one. */
const removeBuilder = Effect.fnUntraced(function* (
  { provider }: Services,
  builder: SandboxName,
  current: SnapshotId | null
) {
  yield* provider.remove(builder)
  for (const { id } of yield* provider.snapshots(builder)) {
    if (id !== current) yield* provider.removeSnapshot(id)
  }
})

/** Removes a builder whose lease has expired. Its row is cleared last, so a failed removal is repeated. */
const removeDeadBuilder = Effect.fnUntraced(function* (services: Services, image: BaseImage, now: DateTime.Utc) {
  const { builder, current, key, leaseExpiresAt } = image
  if (builder === null || leaseExpiresAt === null || DateTime.isGreaterThan(leaseExpiresAt, now)) return
  yield* removeBuilder(services, builder, current)
  yield* services.store.dropBuilder(key, builder, now)
})

const removeReplaced = Effect.fnUntraced(function* ({ provider, store }: Services, image: BaseImage) {
  for (const snapshot of image.replaced) {
    yield* provider.removeSnapshot(snapshot)
    yield* store.dropReplaced(image.key, snapshot)
  }
})

/** Creates the builder, prepares it and takes its snapshot. */
const takeSnapshot = Effect.fnUntraced(function* <E, R>(
  { provider }: Services,
  wanted: ImageToBuild<E, R>,
  builder: SandboxName
) {
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

/** Claims the build of an image for `builder`; gives the image before. None where it is not to be built now. */
const claim = Effect.fnUntraced(function* <E, R>(services: Services, wanted: ImageToBuild<E, R>, builder: SandboxName) {
  const { store } = services
  const now = yield* DateTime.now
  const until = DateTime.addDuration(now, buildLease)
  const staleBefore = DateTime.subtractDuration(now, rebuiltAfter)
  const { account, key } = wanted
  // A claim overwrites the name of the previous builder, so that one is removed first.
  const known = yield* store.find(key)
  if (Option.isSome(known)) yield* removeDeadBuilder(services, known.value, now)
  const before = yield* store.claimBuild({ key, account, builder, until, staleBefore }, now)
  if (Option.isSome(before) && before.value.builder !== null) {
    yield* Effect.ignore(removeBuilder(services, before.value.builder, before.value.current))
  }
  return before
})

/** Removes a builder whose build failed, and records the failure. */
const recordFailure = Effect.fnUntraced(function* (
  services: Services,
  before: BaseImage,
  builder: SandboxName,
  failure: ImageNotBuilt | SandboxUnavailable
) {
  const reason = failure._tag === "ImageNotBuilt" ? failure.reason : providerReason(failure).sentence
  const delay = retryDelay(buildRetry, before.failures + 1)
  const retryAfter = DateTime.addDuration(yield* DateTime.now, delay)
  // A builder that can't be removed now stays in the row, and is removed once its lease has expired.
  yield* removeBuilder(services, builder, null).pipe(
    Effect.andThen(services.store.failBuild(before.key, builder, reason, retryAfter)),
    Effect.ignore
  )
})

const build = Effect.fn("BaseImages.build")(function* <E, R>(services: Services, wanted: ImageToBuild<E, R>) {
  const { provider, random, store } = services
  const { key } = wanted
  const builder = SandboxName.make(`img_${yield* newNonce(random)}`)
  const before = yield* claim(services, wanted, builder)
  if (Option.isNone(before)) return Option.none<SnapshotId>()
  const snapshot = yield* whileRenewing(takeSnapshot(services, wanted, builder), {
    lease: buildLease,
    renew: Effect.flatMap(newExpiry(buildLease), (expiresAt) => store.renewLease(key, builder, expiresAt)),
    lost: Effect.fail(new ImageNotBuilt({ reason: "Another build took its place" }))
  }).pipe(Effect.tapError((failure) => recordFailure(services, before.value, builder, failure)))
  // The builder is removed first: the row that names the snapshot no longer names the builder.
  yield* provider.remove(builder)
  if (!(yield* store.completeBuild(key, builder, snapshot, yield* DateTime.now))) {
    yield* provider.removeSnapshot(snapshot)
    return Option.none<SnapshotId>()
  }
  const image = yield* store.find(key)
  if (Option.isSome(image)) yield* Effect.ignore(removeReplaced(services, image.value))
  return Option.some(snapshot)
})

const collect = (services: Services) =>
  Effect.gen(function* () {
    const { store } = services
    const now = yield* DateTime.now
    const unusedSince = DateTime.subtractDuration(now, unusedKept)
    const images = yield* store.listUnneeded(now, unusedSince, rowsAPass)
    for (const image of images) {
      yield* removeDeadBuilder(services, image, now)
      yield* store.retire(image.key, unusedSince)
      const retired = yield* store.find(image.key)
      if (Option.isSome(retired)) yield* removeReplaced(services, retired.value)
    }
    return images.length
  }).pipe(Effect.withSpan("BaseImages.collect"))
