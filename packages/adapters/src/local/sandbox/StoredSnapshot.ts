/** The file of a snapshot, and of the intent to take one. */
import { Snapshot, type SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { DateTime } from "effect"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"

export interface StoredSnapshot {
  readonly id: SnapshotId
  readonly source: SandboxRecord["name"]
  /** Epoch milliseconds. */
  readonly createdAt: number
  readonly chain: ReadonlyArray<string>
  /** The owner of the files, as in `SandboxRecord`. */
  readonly user?: number
}

export const toSnapshot = (stored: StoredSnapshot): Snapshot =>
  new Snapshot({ id: stored.id, source: stored.source, createdAt: DateTime.makeUnsafe(stored.createdAt) })

/** Whether a file is a snapshot's, and not a temporary file of an atomic write. */
export const isSnapshotFile = (name: string): boolean => name.endsWith(".json")
