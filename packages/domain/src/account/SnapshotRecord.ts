import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import { SnapshotId } from "../sandbox/Snapshot.ts"

/** This service's name for a snapshot, chosen before the provider is called. */
export const SnapshotKey = Schema.String.check(Schema.isPattern(/^snp_[A-Za-z0-9]{1,60}$/)).pipe(
  Schema.brand("SnapshotKey")
)
export type SnapshotKey = typeof SnapshotKey.Type

/** A snapshot of an account: reserved while `id` is null, complete afterwards. */
export class SnapshotRecord extends Schema.Class<SnapshotRecord>("SnapshotRecord")({
  key: SnapshotKey,
  account: AccountId,
  source: SandboxName,
  /** The provider's id; null until the provider has taken the snapshot. */
  id: Schema.NullOr(SnapshotId),
  /**
   * `manual` is kept until it expires, `setup` while it is the account's saved snapshot, `fork` until the forked sandbox
   * has booted from it.
   */
  purpose: Schema.Literals(["manual", "setup", "fork"]),
  startedAt: Schema.DateTimeUtc,
  /** From this time on no sandbox can boot from it, and it is removed. */
  expiresAt: Schema.DateTimeUtc
}) {}
