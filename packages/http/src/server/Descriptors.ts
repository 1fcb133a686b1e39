/** Limits each account's open streams, so that no two accounts can exhaust the process's file descriptors. */
import { readFileSync } from "node:fs"

/** Descriptors reserved for the database, the listener and short requests. */
const reserved = 256

/** Most descriptors that a stream uses: its connection, and the files or pipes that it reads. */
const perStream = 4

/** Accounts that may use all their streams at the same time. */
const accountsAtFullUse = 2

/** The descriptor limit of this process, which Node has raised to the hard limit; infinite where it is unknown. */
export const limit = (): number => {
  try {
    const soft = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "utf8"))?.[1]
    return soft === undefined ? Infinity : Number(soft)
  } catch {
    return Infinity
  }
}

/** Streams, waits and file transfers that one account may have open at a time; at least 8. */
export const maxStreamsPerAccount = (descriptors: number): number =>
  Math.max(8, Math.floor((descriptors - reserved) / perStream / accountsAtFullUse))
