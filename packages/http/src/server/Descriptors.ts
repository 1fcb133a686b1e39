/** How many descriptors this process may have open, and what of them one account may take. */
import { readFileSync } from "node:fs"

/** Descriptors that a server needs for itself: its database, its listener, and short requests. */
const ownUse = 256

/** Descriptors of a stream at most: its connection, and the files or pipes behind it. */
const eachStream = 4

/** Accounts that may have all of their streams open and leave the server what it needs. */
const accountsAtOnce = 2

/** The limit of this process, which Node has raised to the highest allowed; infinite where the host does not say. */
export const limit = (): number => {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1]
    return soft === undefined ? Infinity : Number(soft)
  } catch {
    return Infinity
  }
}

/** Streams, waits and transfers that one account may have open without taking the descriptors of others. */
export const streamsOfOne = (descriptors: number): number =>
  Math.max(8, Math.floor((descriptors - ownUse) / eachStream / accountsAtOnce))
