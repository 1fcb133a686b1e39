/**
 * What the process that starts all others gives up for itself and for everything that it starts: gaining privileges by
 * running a program, the session keyring of the host, core dumps, and the system calls that `systemCalls.ts` refuses.
 */
import { readFileSync } from "node:fs"
import { type Architecture, filterOf, hasFilter, keyctlOf } from "./systemCalls.ts"

/** What holds for every process that is started. */
export interface Hardening {
  /** No program gets more privileges than its caller (`no_new_privs`). */
  readonly noNewPrivileges: boolean
  /** Kernel keys of the host's session are out of reach. */
  readonly ownKeyring: boolean
  /** The system-call filter is in place. */
  readonly filter: boolean
  /** Why something does not hold; undefined if everything does. */
  readonly reason?: string
}

const PR_SET_NO_NEW_PRIVS = 38
const KEYCTL_JOIN_SESSION_KEYRING = 1
const RLIMIT_CORE = 4
const SECCOMP_SET_MODE_FILTER = 1
const SECCOMP_FILTER_FLAG_TSYNC = 1

/** The number of `seccomp`, which has no function in the C library either. */
const seccompNumbers: Record<Architecture, number> = { arm64: 277, x64: 317 }

/** The value of a line of this process's `/proc` status; undefined if there is none. */
const statusOf = (name: string) =>
  new RegExp(`^${name}:\\s*(\\d+)$`, "m").exec(readFileSync("/proc/self/status", "utf8"))?.[1]

/** Hardens this process for the rest of its life, and reports what could not be done. */
export const harden = async (): Promise<Hardening> => {
  const reasons: Array<string> = []
  let ownKeyring = false
  try {
    const { default: koffi } = await import("koffi")
    const library = koffi.load(null)
    const prctl = library.func("int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)")
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    // One byte: with a limit of 0, the kernel would still hand a core dump to a program of the host.
    const setrlimit = library.func("int setrlimit(int, void *)")
    setrlimit(RLIMIT_CORE, Buffer.from(new BigUint64Array([1n, 1n]).buffer))
    if (!hasFilter(process.arch)) {
      reasons.push(`there is no system-call filter for ${process.arch}`)
    } else {
      const keyctl = library.func("syscall", "long", ["long", "unsigned long", "void *"])
      ownKeyring = keyctl(keyctlOf(process.arch), KEYCTL_JOIN_SESSION_KEYRING, null) > 0
      if (!ownKeyring) reasons.push("the kernel gave no keyring")
      const program = koffi.struct({ len: "uint16_t", filter: "void *" })
      const seccomp = library.func("syscall", "long", [
        "long",
        "unsigned long",
        "unsigned long",
        koffi.pointer(program)
      ])
      const filter = filterOf(process.arch)
      seccomp(seccompNumbers[process.arch], SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, {
        len: filter.length / 8,
        filter
      })
    }
  } catch (cause) {
    reasons.push(cause instanceof Error ? cause.message : String(cause))
  }
  const noNewPrivileges = statusOf("NoNewPrivs") === "1"
  const filter = statusOf("Seccomp") === "2"
  if (!filter && reasons.length === 0) reasons.push("the kernel took no system-call filter")
  return { noNewPrivileges, ownKeyring, filter, ...(reasons.length > 0 ? { reason: reasons.join("; ") } : {}) }
}
