/**
 * One process at a time for a directory: a lock that the kernel lets go of when its holder dies, however it dies. It is
 * SQLite's lock on a file in the directory, since Node itself can't lock one; as a lock on a file it also holds between
 * containers that share the directory and nothing else.
 */
import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"

/** What SQLite answers where another has the lock. */
const busy = 5

/** The file that is locked; it stays for as long as the directory's content does. */
export const fileIn = (directory: string): string => join(directory, "castellan.lock")

/** Takes the directory, made if need be; gives what lets go of it, or undefined if another process has it. */
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
