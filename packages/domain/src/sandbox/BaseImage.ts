import { type DateTime, Duration, Option, Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import type { RetryPolicy } from "../lifecycle/RetryPolicy.ts"
import { SandboxName } from "./SandboxName.ts"
import { SnapshotId } from "./Snapshot.ts"

/** What an image is of: who may boot from it and what was prepared in it, as `<account>/<what>`, or `everyone/<what>`. */
export const ImageKey = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,299}$/)).pipe(
  Schema.brand("ImageKey")
)
export type ImageKey = typeof ImageKey.Type

/** A prepared snapshot that many sandboxes boot from, and the work on the next one. */
export class BaseImage extends Schema.Class<BaseImage>("BaseImage")({
  key: ImageKey,
  /** Whose sandboxes boot from it; null for everybody's. */
  account: Schema.NullOr(AccountId),
  /** The last good one; null until the first was built. */
  current: Schema.NullOr(SnapshotId),
  builtAt: Schema.NullOr(Schema.DateTimeUtc),
  /** The sandbox in which the next one is being built; null if nobody builds. */
  builder: Schema.NullOr(SandboxName),
  /** Until when the builder is taken to be alive. */
  leaseExpiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Builds that failed in a row. */
  failures: Schema.Int,
  /** Before this nobody builds again; null where nothing failed. */
  retryAfter: Schema.NullOr(Schema.DateTimeUtc),
  /** Why the last build failed, in words for its owner. */
  error: Schema.NullOr(Schema.String),
  /** Snapshots that were replaced and have not been removed from the provider yet. */
  replaced: Schema.Array(SnapshotId),
  /** When a sandbox last booted from it, to the hour. */
  usedAt: Schema.DateTimeUtc
}) {}

/** The age at which an image is built anew; the old one serves until then. */
export const rebuiltAfter = Duration.hours(24)

/** How long an image is kept that nothing boots from. */
export const unusedKept = Duration.days(14)

/** The delays between a failed build and the next one: 1, 2, 4 … minutes, an hour at most. */
export const buildRetry: RetryPolicy = { initial: Duration.minutes(1), longest: Duration.hours(1) }

/** Whether somebody should build the image now. */
export const wantsBuild = (image: Option.Option<BaseImage>, now: DateTime.Utc): boolean => {
  if (Option.isNone(image)) return true
  const { leaseExpiresAt: builderUntil, builtAt, current, retryAfter } = image.value
  const at = now.epochMilliseconds
  if (builderUntil !== null && builderUntil.epochMilliseconds > at) return false
  // A longer pause than the longest means that the clock was stepped back since.
  const pause = retryAfter === null ? 0 : retryAfter.epochMilliseconds - at
  if (pause > 0 && pause <= Duration.toMillis(buildRetry.longest)) return false
  return current === null || builtAt === null || builtAt.epochMilliseconds + Duration.toMillis(rebuiltAfter) <= at
}
