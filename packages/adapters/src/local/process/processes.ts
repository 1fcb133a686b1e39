/** Identifies and kills processes of the host by number and start time. */
import { readFileSync } from "node:fs"
import { readLiveStat } from "../../process/processStat.ts"

/** Identifies the current boot of the host; the empty string if the host does not tell. */
export const bootId: string = (() => {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
  } catch {
    return ""
  }
})()

/** A process. The start time tells it from a later process with the same number. */
export interface ProcessIdentity {
  readonly pid: number
  readonly parent: number
  /** Clock ticks since the boot of the host. */
  readonly startTime: string
}

/** Parses a line of `/proc/PID/stat`. The program's name in it may contain anything, so fields count from its end. */
export const parseStat = (line: string): ProcessIdentity | undefined => {
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ")
  const pid = Number.parseInt(line, 10)
  return Number.isInteger(pid) && fields.length > 19
    ? { pid, parent: Number(fields[1]), startTime: fields[19]! }
    : undefined
}

export const isAlive = ({ pid, startTime }: ProcessIdentity): boolean => {
  const line = readLiveStat(pid)
  return line !== undefined && parseStat(line)?.startTime === startTime
}

/** The living process with that number, if it runs that program. */
export const findRunning = (pid: number, program: string): ProcessIdentity | undefined => {
  const line = readLiveStat(pid)
  return line?.includes(` (${program}) `) === true ? parseStat(line) : undefined
}

export const killProcess = (identity: ProcessIdentity): void => {
  if (!isAlive(identity)) return
  try {
    process.kill(identity.pid, "SIGKILL")
  } catch {
    // The process ended after the check.
  }
}
