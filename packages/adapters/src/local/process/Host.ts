/** What the host gives: processes that can be told apart. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { readFileSync } from "node:fs"
import { readLiveStat } from "../../process/processStat.ts"

/** What the host runs out of for a while; a later attempt may find enough of it. */
const scarce = new Set(["EMFILE", "ENFILE", "EAGAIN", "ENOMEM"])

const unavailable = (operation: string, cause: unknown) =>
  new SandboxUnavailable({
    operation,
    retryable: scarce.has((cause as NodeJS.ErrnoException | undefined)?.code ?? ""),
    cause
  })

/** A promise of Node as an effect; its failure is the provider's, with the cause withheld. */
export const attempt = <A>(operation: string, run: (signal: AbortSignal) => PromiseLike<A>) =>
  Effect.tryPromise({
    try: (signal) => run(signal),
    catch: (cause) => unavailable(operation, cause)
  })

/** The same for what is done at once. */
export const attemptNow = <A>(operation: string, run: () => A) =>
  Effect.try({ try: run, catch: (cause) => unavailable(operation, cause) })

/** Tells one start of the host from the next; the empty string where the host does not say. */
export const bootId: string = (() => {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
  } catch {
    return ""
  }
})()

/** A process that can't be mistaken for another that got its number later. */
export interface ProcessMark {
  readonly pid: number
  readonly parent: number
  /** Clock ticks after the host's start. */
  readonly startTime: string
}

/** What a line of `/proc/PID/stat` says; the name in it may hold anything, so it is read from its end. */
export const parseStat = (line: string): ProcessMark | undefined => {
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ")
  const pid = Number.parseInt(line, 10)
  return Number.isInteger(pid) && fields.length > 19
    ? { pid, parent: Number(fields[1]), startTime: fields[19]! }
    : undefined
}

/** Whether that very process lives. */
export const isAlive = (mark: ProcessMark): boolean => {
  const line = readLiveStat(mark.pid)
  return line !== undefined && parseStat(line)?.startTime === mark.startTime
}

/** The living process of that number, if it runs that program. */
export const livingAs = (pid: number, program: string): ProcessMark | undefined => {
  const line = readLiveStat(pid)
  return line?.includes(` (${program}) `) === true ? parseStat(line) : undefined
}

/** Kills that very process, if it still lives. */
export const killProcess = (mark: ProcessMark): void => {
  if (!isAlive(mark)) return
  try {
    process.kill(mark.pid, "SIGKILL")
  } catch {
    // It ended in between.
  }
}
