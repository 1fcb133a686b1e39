/** What the host gives: processes that can be told apart, and the uid that sandboxes run under. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { type ChildProcess, spawn } from "node:child_process"
import { openSync, readdirSync, readFileSync } from "node:fs"
import { path } from "./scripts.ts"

/** A promise of Node as an effect; its failure is the provider's, with the cause withheld. */
export const attempt = <A>(operation: string, run: (signal: AbortSignal) => PromiseLike<A>) =>
  Effect.tryPromise({
    try: (signal) => run(signal),
    catch: (cause) => new SandboxUnavailable({ operation, retryable: false, cause })
  })

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

const stateOf = (pid: number): { readonly mark: ProcessMark; readonly zombie: boolean } | undefined => {
  try {
    const line = readFileSync(`/proc/${pid}/stat`, "utf8")
    const mark = parseStat(line)
    return mark && { mark, zombie: /^[ZX]/.test(line.slice(line.lastIndexOf(")") + 2)) }
  } catch {
    return undefined
  }
}

/** Whether that very process lives. */
export const isAlive = (mark: ProcessMark): boolean => {
  const now = stateOf(mark.pid)
  return now !== undefined && !now.zombie && now.mark.startTime === mark.startTime
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

/** As root nothing runs as root: a uid that owns nothing on the host but the sandboxes. */
export const sandboxUid = 200_000

export const isRoot = process.getuid?.() === 0

/** Descriptors that this process was started with and would hand on: not its own, which close by themselves. */
const inherited: ReadonlyArray<number> = (() => {
  try {
    return readdirSync("/proc/self/fdinfo")
      .map(Number)
      .filter((fd) => fd > 2 && !closesOnExec(fd))
  } catch {
    return []
  }
})()

function closesOnExec(fd: number): boolean {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1]
    return flags === undefined || (Number.parseInt(flags, 8) & 0o2000000) !== 0
  } catch {
    return true
  }
}

const nowhere = openSync("/dev/null", "r+")

/** Standard streams as asked for, with nothing behind the descriptors that would leak. */
const sealed = (stdio: ReadonlyArray<StdioEntry>): Array<StdioEntry> => {
  const all = [...stdio]
  for (const fd of inherited) {
    while (all.length <= fd) all.push("ignore")
    if (all[fd] === "ignore") all[fd] = nowhere
  }
  return all
}

type StdioEntry = "ignore" | "pipe" | number

/** Starts a program that knows nothing of the server: not its environment, not its descriptors, not its session. */
export const start = (
  command: ReadonlyArray<string>,
  options: {
    readonly cwd: string
    readonly stdio: ReadonlyArray<StdioEntry>
    readonly env?: Record<string, string>
    readonly drop: boolean
  }
): ChildProcess => {
  const [program, ...args] = command
  const child = spawn(program!, args, {
    cwd: options.cwd,
    detached: true,
    stdio: sealed(options.stdio),
    env: { PATH: path, LANG: "C.UTF-8", ...options.env },
    ...(options.drop ? { uid: sandboxUid, gid: sandboxUid } : {})
  })
  return child
}

/** How a program that was waited for ended. */
export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Bytes of a helper program's output that are looked at. */
const outputRead = 64 * 1024 * 1024

/** Runs a program to its end; an interruption kills it. */
export const run = (
  operation: string,
  command: ReadonlyArray<string>,
  options: { readonly cwd: string; readonly drop: boolean; readonly env?: Record<string, string> }
): Effect.Effect<Ended, SandboxUnavailable> =>
  Effect.callback<Ended, SandboxUnavailable>((resume) => {
    const child = start(command, { ...options, stdio: ["ignore", "pipe", "pipe"] })
    const out: Array<Buffer> = []
    const err: Array<Buffer> = []
    let size = 0
    const keep = (chunks: Array<Buffer>) => (chunk: Buffer) => {
      size += chunk.length
      if (size <= outputRead) chunks.push(chunk)
    }
    child.stdout!.on("data", keep(out))
    child.stderr!.on("data", keep(err))
    child.on("error", (cause) => resume(Effect.fail(new SandboxUnavailable({ operation, retryable: false, cause }))))
    child.on("close", (code) =>
      resume(
        Effect.succeed({
          code: code ?? 137,
          stdout: Buffer.concat(out).toString("utf8"),
          stderr: Buffer.concat(err).toString("utf8")
        })
      )
    )
    return Effect.sync(() => child.kill("SIGKILL"))
  })
