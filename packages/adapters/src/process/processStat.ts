/** Reads from `/proc` whether a process lives. */
import { existsSync, readFileSync } from "node:fs"

/**
 * The line of `/proc/PID/stat` of a process that lives; undefined for one that has ended. A zombie has ended: its parent
 * may take long to reap it, above all process 1 of a container.
 */
export const readLiveStat = (pid: number): string | undefined => {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, "utf8")
    return /^[ZX]/.test(line.slice(line.lastIndexOf(")") + 2)) ? undefined : line
  } catch {
    return undefined
  }
}

/** Whether any process of that number lives, on systems without `/proc` too. */
export const isAlive = (pid: number): boolean => {
  if (existsSync("/proc/self")) return readLiveStat(pid) !== undefined
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return (cause as { readonly code?: string }).code === "EPERM"
  }
}
