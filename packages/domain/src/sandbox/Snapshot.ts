import { Schema } from "effect"
import { SandboxName } from "./SandboxName.ts"

/** The provider's id of a snapshot. */
export const SnapshotId = Schema.String.check(
  Schema.isPattern(/^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$/, { message: "must be the id of a snapshot" })
).pipe(Schema.brand("SnapshotId"))
export type SnapshotId = typeof SnapshotId.Type

/** The files of a sandbox at one moment. Immutable; new sandboxes can boot from it. */
export class Snapshot extends Schema.Class<Snapshot>("Snapshot")({
  id: SnapshotId,
  source: SandboxName,
  createdAt: Schema.DateTimeUtc
}) {}
