/** Detects that a file or directory was deleted or replaced since this process opened it. */
import { statSync } from "node:fs"

/** How a path changed, in words that follow it in a sentence. */
export type PathChange = "is missing" | "was replaced"

/** The file that this process opened at a path is deleted: what it writes there is lost. */
export class PathChanged extends Error {
  override readonly name = "PlaceLost"
  readonly change: PathChange

  constructor(path: string, change: PathChange) {
    super(`${path} ${change} since this server started`)
    this.change = change
  }
}

/** Records the identity of a path. The function it returns tells how the path has changed, if it has. */
export const watchPath = (path: string): (() => PathChange | undefined) => {
  // A file system may reuse the inode number of a deleted file, but not its time of birth.
  const { birthtimeNs, dev, ino } = statSync(path, { bigint: true })
  return () => {
    const now = statSync(path, { bigint: true, throwIfNoEntry: false })
    if (now === undefined) return "is missing"
    return now.dev === dev && now.ino === ino && now.birthtimeNs === birthtimeNs ? undefined : "was replaced"
  }
}

/** Records the identity of a path. The function it returns throws `PathChanged` once the path has changed. */
export const assertUnchanged = (path: string): (() => void) => {
  const changeOf = watchPath(path)
  return () => {
    const change = changeOf()
    if (change !== undefined) throw new PathChanged(path, change)
  }
}
