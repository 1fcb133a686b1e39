import { Schema } from "effect"
import { AccountId } from "../identity/Account.ts"
import { SandboxName } from "../sandbox/SandboxName.ts"
import { SnapshotId } from "../sandbox/Snapshot.ts"

/** Our own name of a snapshot, known before its provider is asked for it. */
export const SnapshotKey = Schema.String.check(Schema.isPattern(/^snp_[A-Za-z0-9]{1,60}$/)).pipe(
  Schema.brand("SnapshotKey")
)
export type SnapshotKey = typeof SnapshotKey.Type

/** A snapshot of an account: wanted, and once `id` is there, taken. */
export class SnapshotRecord extends Schema.Class<SnapshotRecord>("SnapshotRecord")({
  key: SnapshotKey,
  account: AccountId,
  source: SandboxName,
  /** The provider's id; null until it was taken. */
  id: Schema.NullOr(SnapshotId),
  /** `manual` is kept until it expires; `setup` while it is the account's saved one; `fork` while it is copied from. */
  purpose: Schema.Literals(["manual", "setup", "fork"]),
  startedAt: Schema.DateTimeUtc,
  /** From when on it can't be booted from and is removed. */
  expiresAt: Schema.DateTimeUtc
}) {}
