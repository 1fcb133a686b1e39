/** The trees that were read from the host. Drops the least recently read ones when they take too much memory. */
import type { FileTree } from "./FileTree.ts"

/** Estimated bytes that all cached trees may take. */
const maxBytes = 192 * 1024 * 1024

/** Estimated bytes of an entry besides its path. */
const entryBytes = 400

const bytesOf = ({ entries }: FileTree) =>
  entries.reduce((bytes, { path }) => bytes + entryBytes + path.length, entryBytes)

export interface CachedTree {
  readonly tree: FileTree
  readonly bytes: number
  /** Monotonic milliseconds at which the host was asked for the tree. */
  readonly readAt: number
}

export class TreeCache {
  /** Least recently read first. */
  private readonly trees = new Map<string, CachedTree>()
  private bytes = 0

  get(key: string): CachedTree | undefined {
    return this.trees.get(key)
  }

  set(key: string, tree: FileTree, readAt: number): void {
    const before = this.trees.get(key)
    const bytes = before?.tree === tree ? before.bytes : bytesOf(tree)
    this.delete(key)
    this.trees.set(key, { tree, bytes, readAt })
    this.bytes += bytes
    for (const oldest of this.trees.keys()) {
      if (this.bytes <= maxBytes || oldest === key) break
      this.delete(oldest)
    }
  }

  /** Makes a tree count as read at `readAt`. */
  backdate(key: string, readAt: number): void {
    const cached = this.trees.get(key)
    if (cached !== undefined) this.trees.set(key, { ...cached, readAt })
  }

  delete(key: string): void {
    this.bytes -= this.trees.get(key)?.bytes ?? 0
    this.trees.delete(key)
  }
}
