/**
 * Hardens the spawner process and thereby everything that it starts: no new privileges by running a program, no access to the
 * session keyring of the host, no core dumps, and none of the system calls that `systemCalls.ts` refuses.
 */
import { readFileSync } from "node:fs"
import { type Architecture, filterOf, hasFilter, keyctlOf } from "./systemCalls.ts"

/** The protections of every program that the spawner starts. */
export interface Hardening {
  /** No program gets more privileges than its caller (`no_new_privs`). */
  readonly noNewPrivileges: boolean
  /** Programs can't reach the kernel keys of the host's session. */
  readonly ownKeyring: boolean
  /** The system-call filter is in place. */
  readonly filter: boolean
  /** Why a protection is missing; absent if none is. */
  readonly reason?: string
}

const PR_SET_NO_NEW_PRIVS = 38
const KEYCTL_JOIN_SESSION_KEYRING = 1
const RLIMIT_CORE = 4
const SECCOMP_SET_MODE_FILTER = 1
const SECCOMP_FILTER_FLAG_TSYNC = 1

/** The call number of `seccomp`, for which the C library has no function. */
const seccompNumbers: Record<Architecture, number> = { arm64: 277, x64: 317 }

/** The value of a line of `/proc/self/status`; undefined if there is no such line. */
const statusOf = (name: string) =>
  new RegExp(`^${name}:\\s*(\\d+)$`, "m").exec(readFileSync("/proc/self/status", "utf8"))?.[1]

/** Hardens this process for the rest of its life, and reports which protections are missing. */
export const harden = async (): Promise<Hardening> => {
  const reasons: Array<string> = []
  let ownKeyring = false
  try {
    const { default: koffi } = await import("koffi")
    const library = koffi.load(null)
    const prctl = library.func("int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)")
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    // One byte: with a limit of 0 the kernel would still pipe a core dump to a handler program of the host.
    const setrlimit = library.func("int setrlimit(int, void *)")
    setrlimit(RLIMIT_CORE, Buffer.from(new BigUint64Array([1n, 1n]).buffer))
    if (!hasFilter(process.arch)) {
      reasons.push(`there is no system-call filter for ${process.arch}`)
    } else {
      const keyctl = library.func("syscall", "long", ["long", "unsigned long", "void *"])
      ownKeyring = keyctl(keyctlOf(process.arch), KEYCTL_JOIN_SESSION_KEYRING, null) > 0
      if (!ownKeyring) reasons.push("the kernel refused a new session keyring")
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
  if (!filter && reasons.length === 0) reasons.push("the kernel refused the system-call filter")
  return { noNewPrivileges, ownKeyring, filter, ...(reasons.length > 0 ? { reason: reasons.join("; ") } : {}) }
}
