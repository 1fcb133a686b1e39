/** Determines from `/proc` whether a process is alive. */
import { existsSync, readFileSync } from "node:fs"

/**
 * The line in `/proc/PID/stat` of a live process; undefined for one that has ended. A zombie has ended: its parent may
 * reap it late, for example if that is process 1 of a container.
 */
export const readLiveStat = (pid: number): string | undefined => {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, "utf8")
    return /^[ZX]/.test(line.slice(line.lastIndexOf(")") + 2)) ? undefined : line
  } catch {
    return undefined
  }
}

/** Whether a process with that id is alive. Works on systems without `/proc` too. */
export const isAlive = (pid: number): boolean => {
  if (existsSync("/proc/self")) return readLiveStat(pid) !== undefined
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return (cause as { readonly code?: string }).code === "EPERM"
  }
}
