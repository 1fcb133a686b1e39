/** Starting programs that know nothing of the server: not its environment, not its descriptors, not its session. */
import { type ChildProcess, spawn } from "node:child_process"
import { openSync, readdirSync, readFileSync } from "node:fs"
import type { Socket } from "node:net"
import type { Hardening } from "../isolation/hardening.ts"
import { systemPath } from "../isolation/scripts.ts"

/** The user that sandboxes of a server that runs as root run as if they have none of their own; see `Machines`. */
export const sandboxUid = 200_000

export const isRoot = process.getuid?.() === 0

const closesOnExec = (fd: number): boolean => {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1]
    return flags === undefined || (Number.parseInt(flags, 8) & 0o2000000) !== 0
  } catch {
    return true
  }
}

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

const nowhere = openSync("/dev/null", "r+")

export type Stdio = "ignore" | "pipe" | "ipc" | number | Socket

/** Standard streams as asked for, with nothing behind the descriptors that would leak. */
const sealed = (stdio: ReadonlyArray<Stdio>): Array<Stdio> => {
  const all = [...stdio]
  for (const fd of inherited) {
    while (all.length <= fd) all.push("ignore")
    if (all[fd] === "ignore") all[fd] = nowhere
  }
  return all
}

export interface Program {
  readonly command: ReadonlyArray<string>
  readonly cwd: string
  readonly env?: Record<string, string>
  /** The user of the host that it runs as; false for the server's own user. */
  readonly user: number | false
}

/** Starts a program. Throws where the system refuses at once; what it refuses later is the child's `error` event. */
export const start = (program: Program, stdio: ReadonlyArray<Stdio>): ChildProcess => {
  const [file, ...args] = program.command
  const child = spawn(file!, args, {
    cwd: program.cwd,
    detached: true,
    stdio: sealed(stdio),
    env: { PATH: systemPath, LANG: "C.UTF-8", ...program.env },
    ...(program.user === false ? {} : { uid: program.user, gid: program.user })
  })
  // An `error` event that nobody listens to would end this process.
  child.on("error", () => undefined)
  // Node makes no pipes, not even the list of them, where it runs out of descriptors.
  if ((child.stdio as typeof child.stdio | undefined) === undefined) {
    throw Object.assign(new Error("no descriptors are left for a new process"), { code: "EMFILE" })
  }
  return child
}

/** Bytes of a program's errors that are kept for whoever wants to know why it failed. */
const errorsKept = 16 * 1024

/** The beginning of what a program prints of errors, as it is when asked. */
export const errorsOf = (child: Pick<ChildProcess, "stderr">): (() => string) => {
  let said = ""
  child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
    if (said.length < errorsKept) said += chunk
  })
  return () => said
}

/** How a program that was waited for ended. */
export interface Ended {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  /** The system's word for why it could not be started, like `E2BIG`. */
  readonly errno?: string
}

const errnoOf = (cause: unknown): Pick<Ended, "errno"> => {
  const code = (cause as NodeJS.ErrnoException).code
  return code === undefined ? {} : { errno: code }
}

/** Bytes of a program's output that are kept: more than the sizes of all running sandboxes take. */
const outputRead = 1024 * 1024

/** What to wait for: nothing, the line `ready` on its standard output, or its end. */
export type Until = "started" | "ready" | "ended"

/** Starts a program and waits; gives what it printed by then. Code 0 stands for what has not ended. */
export const startUntil = (program: Program, until: Until, done: (ended: Ended) => void): ChildProcess | undefined => {
  const said = { stdout: "", stderr: "" }
  let child: ChildProcess
  try {
    child = start(program, until === "started" ? ["ignore", "ignore", "ignore"] : ["ignore", "pipe", "pipe"])
  } catch (cause) {
    // What the system refuses outright, such as arguments that are too long, must not end the process that starts all.
    done({ code: 126, stdout: "", stderr: String(cause), ...errnoOf(cause) })
    return undefined
  }
  let over = false
  const finish = (code: number, more: Pick<Ended, "errno"> = {}) => {
    if (over) return
    over = true
    done({ code, ...said, ...more })
  }
  child.on("error", (cause) => {
    said.stderr += cause.message
    finish(127, errnoOf(cause))
  })
  if (until === "started") {
    child.unref()
    child.on("spawn", () => finish(0))
    return child
  }
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream]!.setEncoding("utf8").on("data", (chunk: string) => {
      if (said[stream].length < outputRead) said[stream] += chunk
      if (until !== "ready" || !/^ready$/m.test(said.stdout)) return
      for (const pipe of [child.stdout!, child.stderr!]) pipe.destroy()
      child.unref()
      finish(0)
    })
  }
  child.on("close", (code) => finish(code ?? 137))
  return child
}

/** What the process that starts others is told, and what it tells. */
export interface Order {
  readonly id: number
  readonly program: Program
  readonly until: Until
}

/** A stream of a program that the server holds the other end of; `extra` is descriptor 3, which the program reads. */
export type Pipe = "stdin" | "stdout" | "stderr" | "extra"

export const pipes: ReadonlyArray<Pipe> = ["stdin", "stdout", "stderr", "extra"]

/** An order whose program's streams lead to the server: the process connects them to a socket that the server listens on. */
export interface Connection {
  readonly id: number
  readonly program: Program
  readonly pipes: ReadonlyArray<Pipe>
  /** The address of the socket. */
  readonly socket: string
  /** What each connection begins with, followed by the index of its pipe in `pipes`; nobody else knows it. */
  readonly token: string
}

export interface Withdrawal {
  readonly id: number
  readonly kill: true
}

export type Report =
  | { readonly id: number; readonly ended: Ended }
  /** A program whose streams lead to the server runs; from now on the server may write to it. */
  | { readonly id: number; readonly spawned: true }

/** Comes first: what holds for everything that the process starts. */
export interface Introduction {
  readonly hardening: Hardening
}
