/** The paths in the provider's data directory. */
import type { CommandId } from "@castellan/domain/sandbox/Command.ts"
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { join } from "node:path"

export interface Layout {
  readonly root: string
  /** What all sandboxes share: their root directory, and the layers with Node and npm. */
  readonly runtime: string
  /** The root directory of every sandbox, mounted read-only. */
  readonly runtimeRoot: string
  /** A link to Node, for sandboxes without isolation. */
  readonly node: string
  readonly sandboxes: string
  readonly layers: string
  /** Flattened layers on their way, by sandbox. */
  readonly flattened: string
  /** A file for each collection of unused layers that is under way; see `Layers`. */
  readonly collecting: string
  readonly snapshots: string
  readonly trash: string
  /** The files that `Locks` locks. */
  readonly locks: string
  readonly layer: (id: string) => string
  readonly snapshot: (id: SnapshotId) => string
  readonly sandbox: (name: SandboxName) => SandboxLayout
}

export interface SandboxLayout {
  readonly root: string
  /** The `SandboxRecord`. */
  readonly record: string
  /** The line of `/proc/PID/stat` that the sandbox's first process wrote about itself. */
  readonly init: string
  /** The token of the start that counts. A start with another token ends itself. */
  readonly start: string
  /**
   * When the sandbox ends even without a server, in epoch seconds. Overwritten in place, because the sandbox's timekeeper
   * keeps it open.
   */
  readonly deadline: string
  /** The sandbox's own files: the upper directory of its overlay mount. */
  readonly upper: string
  readonly work: string
  /** The mount point of the sandbox's files: its layers with `upper` on top. Only its processes see the mount. */
  readonly mountedFiles: string
  /** The mount point of the sandbox's root. Only its processes see the mount. */
  readonly mountedRoot: string
  /** Mount points at the sandbox's root that other sandboxes do not have. */
  readonly extra: string
  /** The intent of a snapshot under way; see `Images`. */
  readonly pendingSnapshot: string
  readonly commands: string
  readonly command: (id: CommandId) => string
}

export const makeLayout = (root: string): Layout => ({
  root,
  runtime: join(root, "runtime"),
  runtimeRoot: join(root, "runtime", "root"),
  node: join(root, "runtime", "node"),
  sandboxes: join(root, "sandboxes"),
  layers: join(root, "layers"),
  flattened: join(root, "flat"),
  collecting: join(root, "collecting"),
  snapshots: join(root, "snapshots"),
  trash: join(root, "trash"),
  locks: join(root, "locks"),
  layer: (id) => join(root, "layers", id),
  snapshot: (id) => join(root, "snapshots", `${id}.json`),
  sandbox: (name) => {
    const own = join(root, "sandboxes", name)
    return {
      root: own,
      record: join(own, "spec.json"),
      init: join(own, "init"),
      start: join(own, "start"),
      deadline: join(own, "deadline"),
      upper: join(own, "upper"),
      work: join(own, "work"),
      mountedFiles: join(own, "files"),
      mountedRoot: join(own, "root"),
      extra: join(own, "extra"),
      pendingSnapshot: join(own, "moving.json"),
      commands: join(own, "commands"),
      command: (id) => join(own, "commands", id)
    }
  }
})
