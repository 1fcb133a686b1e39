/** Tells whether a place on the disk is still the one that it was when this process opened it. */
import { statSync } from "node:fs"

/** How a place was lost: nothing is there any more, or something else is. */
export type PathChange = "is missing" | "was replaced"

/** What stood at a path is lost: whatever this process still has open is deleted, and nothing written there would stay. */
export class PathChanged extends Error {
  override readonly name = "PlaceLost"
  readonly lost: PathChange

  constructor(path: string, lost: PathChange) {
    super(`${path} ${lost} since this server started`)
    this.lost = lost
  }
}

/** Remembers what stands at the path; the function tells how that was lost, if it was. */
export const watchPath = (path: string): (() => PathChange | undefined) => {
  // A file system may give the inode number of a deleted file to the next one, which then has another time of birth.
  const { birthtimeNs, dev, ino } = statSync(path, { bigint: true })
  return () => {
    const now = statSync(path, { bigint: true, throwIfNoEntry: false })
    if (now === undefined) return "is missing"
    return now.dev === dev && now.ino === ino && now.birthtimeNs === birthtimeNs ? undefined : "was replaced"
  }
}

/** Remembers what stands at the path; the function throws `PlaceLost` once that is lost. */
export const assertUnchanged = (path: string): (() => void) => {
  const lost = watchPath(path)
  return () => {
    const how = lost()
    if (how !== undefined) throw new PathChanged(path, how)
  }
}
