/** Where it is kept which base images there are, and who is building one. A NUL in a text may come back as U+FFFD. */
import { Context, type DateTime, type Effect, type Option } from "effect"
import type { AccountId } from "../identity/Account.ts"
import type { BaseImage, ImageKey } from "./BaseImage.ts"
import type { SandboxName } from "./SandboxName.ts"
import type { SnapshotId } from "./Snapshot.ts"

export class BaseImageStore extends Context.Service<
  BaseImageStore,
  {
    /** The image of that key; none if nobody ever began one. */
    readonly find: (key: ImageKey) => Effect.Effect<Option.Option<BaseImage>>
    /** Records that a sandbox boots from it at `at`, to the hour: within the same hour nothing is written. */
    readonly recordUse: (key: ImageKey, at: DateTime.Utc) => Effect.Effect<void>
    /**
     * Makes `builder` the one that builds, until `until`, if nobody does at `now`, no failure forbids it, and the image
     * is missing or was built before `staleBefore`. Gives the image as it was before, with the builder that was given
     * up, or one with nothing in it yet, taken to be used at `now`; none if the claim was refused. Of many that claim at
     * once one gets it.
     */
    readonly claimBuild: (
      claim: {
        readonly key: ImageKey
        /** Whose sandboxes boot from it; null for everybody's. */
        readonly account: AccountId | null
        readonly builder: SandboxName
        readonly until: DateTime.Utc
        readonly staleBefore: DateTime.Utc
      },
      now: DateTime.Utc
    ) => Effect.Effect<Option.Option<BaseImage>>
    /** Sets until when the builder is taken to be alive, and tells whether it still is the one. */
    readonly renewLease: (key: ImageKey, builder: SandboxName, until: DateTime.Utc) => Effect.Effect<boolean>
    /**
     * Makes a snapshot the current one, built at `at`, if the builder still is the one, and tells so. The one before is
     * `replaced`, nobody builds then, and failures are forgotten.
     */
    readonly completeBuild: (
      key: ImageKey,
      builder: SandboxName,
      snapshot: SnapshotId,
      at: DateTime.Utc
    ) => Effect.Effect<boolean>
    /** Records a failed build, if the builder still is the one: nobody builds then, nor before `retryAfter`. */
    readonly failBuild: (
      key: ImageKey,
      builder: SandboxName,
      error: string,
      retryAfter: DateTime.Utc
    ) => Effect.Effect<void>
    /** Takes the current snapshot away, if it is this one: the provider no longer has it. */
    readonly markLost: (key: ImageKey, snapshot: SnapshotId) => Effect.Effect<void>
    /**
     * Images with snapshots that were replaced, with a builder not taken to be alive at `now`, or with a current snapshot
     * but last used before `unusedSince`; those unused longest first, `limit` at most.
     */
    readonly listUnneeded: (
      now: DateTime.Utc,
      unusedSince: DateTime.Utc,
      limit: number
    ) => Effect.Effect<ReadonlyArray<BaseImage>>
    /** Forgets a replaced snapshot, once the provider has. */
    readonly dropReplaced: (key: ImageKey, snapshot: SnapshotId) => Effect.Effect<void>
    /** Forgets a builder that is not taken to be alive at `now`, once its sandbox is gone. */
    readonly dropBuilder: (key: ImageKey, builder: SandboxName, now: DateTime.Utc) => Effect.Effect<void>
    /** Retires an image that was last used before `unusedSince`: its current snapshot is `replaced` then. */
    readonly retire: (key: ImageKey, unusedSince: DateTime.Utc) => Effect.Effect<void>
  }
>()("domain/sandbox/BaseImageStore") {}
