/** Starts programs that inherit nothing of the server: no environment, no descriptors, no session. */
import { type ChildProcess, spawn } from "node:child_process"
import { openSync, readdirSync, readFileSync } from "node:fs"
import type { Socket } from "node:net"

/** The `PATH` of the provider's programs, on the host and inside; no sandbox can write there. */
export const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/** The host's user of the sandboxes that have none of their own, if the server is root; see `SandboxRecord`. */
export const sharedSandboxUid = 200_000

export const isRoot = process.getuid?.() === 0

const closesOnExec = (fd: number): boolean => {
  try {
    const flags = /^flags:\s*([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "utf8"))?.[1]
    return flags === undefined || (Number.parseInt(flags, 8) & 0o2000000) !== 0
  } catch {
    return true
  }
}

/** The descriptors that this process was started with and would pass on. Node's own descriptors close on exec. */
const inherited: ReadonlyArray<number> = (() => {
  try {
    return readdirSync("/proc/self/fdinfo")
      .map(Number)
      .filter((fd) => fd > 2 && !closesOnExec(fd))
  } catch {
    return []
  }
})()

const devNull = openSync("/dev/null", "r+")

export type Stdio = "ignore" | "pipe" | "ipc" | number | Socket

/** Puts `/dev/null` over every inherited descriptor that the program did not ask for. */
const withoutInherited = (stdio: ReadonlyArray<Stdio>): Array<Stdio> => {
  const all = [...stdio]
  for (const fd of inherited) {
    while (all.length <= fd) all.push("ignore")
    if (all[fd] === "ignore") all[fd] = devNull
  }
  return all
}

export interface Program {
  readonly command: ReadonlyArray<string>
  readonly cwd: string
  readonly env?: Record<string, string>
  /** The host's user that it runs as; false for the server's own user. */
  readonly user: number | false
}

/** Starts a program. Throws if the system refuses at once; later failures are the child's `error` event. */
export const spawnProgram = (program: Program, stdio: ReadonlyArray<Stdio>): ChildProcess => {
  const [file, ...args] = program.command
  const child = spawn(file!, args, {
    cwd: program.cwd,
    detached: true,
    stdio: withoutInherited(stdio),
    env: { PATH: systemPath, LANG: "C.UTF-8", ...program.env },
    ...(program.user === false ? {} : { uid: program.user, gid: program.user })
  })
  // An `error` event without a listener would end this process.
  child.on("error", () => undefined)
  // Node leaves `stdio` undefined when it runs out of descriptors.
  if ((child.stdio as typeof child.stdio | undefined) === undefined) {
    throw Object.assign(new Error("no descriptors are left for a new process"), { code: "EMFILE" })
  }
  return child
}

/** Characters of a program's standard error that are kept. */
const maxStderr = 16 * 1024

/** Collects the start of a program's standard error. Call the result to get what was printed so far. */
export const collectStderr = (child: Pick<ChildProcess, "stderr">): (() => string) => {
  let text = ""
  child.stderr!.setEncoding("utf8").on("data", (chunk: string) => {
    if (text.length < maxStderr) text += chunk
  })
  return () => text
}

export interface ProgramResult {
  /** The exit code; 0 for a program that still runs, 126 or 127 for one that did not start, 137 for one that was killed. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  /** The system's error code if the program could not be started, like `E2BIG`. */
  readonly errno?: string
}

export const errnoOf = (cause: unknown): Pick<ProgramResult, "errno"> => {
  const code = (cause as NodeJS.ErrnoException).code
  return code === undefined ? {} : { errno: code }
}

/** Characters of each output stream that are kept; enough for the disk usage of all sandboxes that run. */
const maxOutput = 1024 * 1024

/** When to stop waiting for a program: at its start, at a line `ready` on its standard output, or at its end. */
export type WaitFor = "started" | "ready" | "ended"

/** Starts a program, waits, and calls `done` once with what it printed by then. */
export const spawnUntil = (
  program: Program,
  until: WaitFor,
  done: (result: ProgramResult) => void
): ChildProcess | undefined => {
  const output = { stdout: "", stderr: "" }
  let child: ChildProcess
  try {
    child = spawnProgram(program, until === "started" ? ["ignore", "ignore", "ignore"] : ["ignore", "pipe", "pipe"])
  } catch (cause) {
    // The system refuses some programs at once, for example for arguments that are too long.
    done({ code: 126, stdout: "", stderr: String(cause), ...errnoOf(cause) })
    return undefined
  }
  let isDone = false
  const finish = (code: number, failure: Pick<ProgramResult, "errno"> = {}) => {
    if (isDone) return
    isDone = true
    done({ code, ...output, ...failure })
  }
  child.on("error", (cause) => {
    output.stderr += cause.message
    finish(127, errnoOf(cause))
  })
  if (until === "started") {
    child.unref()
    child.on("spawn", () => finish(0))
    return child
  }
  for (const stream of ["stdout", "stderr"] as const) {
    child[stream]!.setEncoding("utf8").on("data", (chunk: string) => {
      if (output[stream].length < maxOutput) output[stream] += chunk
      if (until !== "ready" || !/^ready$/m.test(output.stdout)) return
      for (const pipe of [child.stdout!, child.stderr!]) pipe.destroy()
      child.unref()
      finish(0)
    })
  }
  child.on("close", (code) => finish(code ?? 137))
  return child
}
