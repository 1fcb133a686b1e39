/**
 * Locks a directory for one process. The kernel releases the lock when the process dies. Node can't lock files, so this is
 * SQLite's lock on a file in the directory. It also works between containers that share only the directory.
 */
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

/** SQLite's error code for a file that another process has locked. */
const busy = 5

/** The locked file. It is never deleted. */
export const fileIn = (directory: string): string => join(directory, "castellan.lock")

/** Locks the directory, which is created if missing. Returns the release, or undefined if another process has the lock. */
export const take = async (directory: string): Promise<(() => void) | undefined> => {
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const file = new DatabaseSync(fileIn(directory), { timeout: 0 })
  try {
    file.exec("begin exclusive")
    return () => file.close()
  } catch (cause) {
    file.close()
    if ((cause as { readonly errcode?: unknown }).errcode === busy) return undefined
    throw cause
  }
}
