/** Stores base images and the leases of their builders. A NUL in a text may be read back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountId } from "../identity/Account.ts"
import type { BaseImage, ImageKey } from "./BaseImage.ts"
import type { SandboxName } from "./SandboxName.ts"
import type { SnapshotId } from "./Snapshot.ts"

export class BaseImageStore extends Context.Service<
  BaseImageStore,
  {
    /** The image with this key; none if no build was ever started. */
    readonly find: (key: ImageKey) => Effect.Effect<Option.Option<BaseImage>>
    /** Records that a sandbox boots from it at `at`, to the hour: nothing is written within the same hour. */
    readonly recordUse: (key: ImageKey, at: DateTime.Utc) => Effect.Effect<void>
    /**
     * Claims the build for `builder` until `until`. Succeeds if there is no live builder at `now`, no retry time
     * forbids it, and the image is missing or was built before `staleBefore`. Returns the image as it was before,
     * including a dead builder, or a new empty one that counts as used at `now`; none if the claim was refused. One of
     * several concurrent claims succeeds.
     */
    readonly claimBuild: (
      claim: {
        readonly key: ImageKey
        /** The account that may boot from it; null for all accounts. */
        readonly account: AccountId | null
        readonly builder: SandboxName
        readonly until: DateTime.Utc
        readonly staleBefore: DateTime.Utc
      },
      now: DateTime.Utc
    ) => Effect.Effect<Option.Option<BaseImage>>
    /** Sets when the builder's lease expires. False if it is no longer the builder. */
    readonly renewLease: (key: ImageKey, builder: SandboxName, until: DateTime.Utc) => Effect.Effect<boolean>
    /**
     * Makes a snapshot the current one, built at `at`, and ends the build. The previous snapshot becomes `replaced`,
     * and failures are reset. False, without any change, if `builder` is no longer the builder.
     */
    readonly completeBuild: (
      key: ImageKey,
      builder: SandboxName,
      snapshot: SnapshotId,
      at: DateTime.Utc
    ) => Effect.Effect<boolean>
    /** Records a failed build and ends it, if `builder` is still the builder. No build starts before `retryAfter`. */
    readonly failBuild: (
      key: ImageKey,
      builder: SandboxName,
      error: string,
      retryAfter: DateTime.Utc
    ) => Effect.Effect<void>
    /** Clears the current snapshot if it is this one, because the provider no longer has it. */
    readonly markLost: (key: ImageKey, snapshot: SnapshotId) => Effect.Effect<void>
    /**
     * Images with replaced snapshots, with a builder whose lease has expired at `now`, or with a current snapshot that
     * was last used before `unusedSince`. Longest unused first, at most `limit`.
     */
    readonly listUnneeded: (
      now: DateTime.Utc,
      unusedSince: DateTime.Utc,
      limit: number
    ) => Effect.Effect<ReadonlyArray<BaseImage>>
    /** Deletes the record of a replaced snapshot. To be called after the provider has removed it. */
    readonly dropReplaced: (key: ImageKey, snapshot: SnapshotId) => Effect.Effect<void>
    /** Clears a builder whose lease has expired at `now`. To be called after its sandbox was removed. */
    readonly dropBuilder: (key: ImageKey, builder: SandboxName, now: DateTime.Utc) => Effect.Effect<void>
    /** Retires an image that was last used before `unusedSince`: its current snapshot becomes `replaced`. */
    readonly retire: (key: ImageKey, unusedSince: DateTime.Utc) => Effect.Effect<void>
  }
>()("domain/sandbox/BaseImageStore") {}
