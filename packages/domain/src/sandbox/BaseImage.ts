/** What is stored of a base image, and when it is built again. */
import { type DateTime, Duration, Option, Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import type { RetryPolicy } from "../lifecycle/RetryPolicy.ts"
import { SandboxName } from "./SandboxName.ts"
import { SnapshotId } from "./Snapshot.ts"

/**
 * Identifies an image by the account that may boot from it and its content: `<account>/<content>` or
 * `everyone/<content>`.
 */
export const ImageKey = Schema.String.check(Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9_.:/@-]{0,299}$/)).pipe(
  Schema.brand("ImageKey")
)
export type ImageKey = typeof ImageKey.Type

/** A prepared snapshot from which many sandboxes boot, and the state of its next build. */
export class BaseImage extends Schema.Class<BaseImage>("BaseImage")({
  key: ImageKey,
  /** The account that may boot from it; null for all accounts. */
  account: Schema.NullOr(AccountId),
  /** The last complete snapshot; null until the first build is complete. */
  current: Schema.NullOr(SnapshotId),
  builtAt: Schema.NullOr(Schema.DateTimeUtc),
  /** The sandbox of the current build; null if there is none. */
  builder: Schema.NullOr(SandboxName),
  /** When the builder's lease expires. */
  leaseExpiresAt: Schema.NullOr(Schema.DateTimeUtc),
  /** Consecutive failed builds. */
  failures: Schema.Int,
  /** No build starts before this time; null if the last build did not fail. */
  retryAfter: Schema.NullOr(Schema.DateTimeUtc),
  /** Why the last build failed, as a sentence for its owner. */
  error: Schema.NullOr(Schema.String),
  /** Replaced snapshots that have not been removed from the provider yet. */
  replaced: Schema.Array(SnapshotId),
  /** When a sandbox last booted from it, to the hour. */
  usedAt: Schema.DateTimeUtc
}) {}

/** Age at which an image is rebuilt. The old one is used until then. */
export const rebuiltAfter = Duration.hours(24)

/** How long an unused image is kept. */
export const unusedKept = Duration.days(14)

/** Delays between a failed build and the next: 1, 2, 4 … minutes, up to an hour. */
export const buildRetry: RetryPolicy = { initial: Duration.minutes(1), longest: Duration.hours(1) }

/** Whether the image should be built now. */
export const wantsBuild = (image: Option.Option<BaseImage>, now: DateTime.Utc): boolean => {
  if (Option.isNone(image)) return true
  const { builtAt, current, leaseExpiresAt, retryAfter } = image.value
  const at = now.epochMilliseconds
  if (leaseExpiresAt !== null && leaseExpiresAt.epochMilliseconds > at) return false
  // If more than the longest delay remains, the system clock was set back.
  const pause = retryAfter === null ? 0 : retryAfter.epochMilliseconds - at
  if (pause > 0 && pause <= Duration.toMillis(buildRetry.longest)) return false
  return current === null || builtAt === null || builtAt.epochMilliseconds + Duration.toMillis(rebuiltAfter) <= at
}
