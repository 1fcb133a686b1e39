/** Isolates sandboxes in Linux namespaces, made with util-linux. */
import { type Protection, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Semaphore } from "effect"
import { randomInt } from "node:crypto"
import { existsSync, lchownSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { readFile } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { attempt, attemptSync } from "../process/attempt.ts"
import type { Hardening } from "../process/hardening.ts"
import { parseStat, type ProcessIdentity } from "../process/processes.ts"
import { isRoot, sharedSandboxUid } from "../process/Spawn.ts"
import { hardening, runUntil } from "../process/Spawner.ts"
import { readText } from "../storage/files.ts"
import type { Layout, SandboxLayout } from "../storage/Layout.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"
import { BootTimedOut, type Isolation, processHardLimit } from "./Isolation.ts"
import { launch, staleStartCode } from "./launchScript.ts"
import { makeFstabs } from "./mounts.ts"
import { npmDirectory } from "./Npm.ts"
import { ensureNodeLayer, extraDirectories, home, isDirectory, ownDirectories } from "./rootFiles.ts"

/** A start takes some 30 ms on an idle host, and many seconds on an overloaded one. */
const bootTimeout = Duration.minutes(1)

/**
 * The users that sandboxes run as when the server is root: a range that no distribution assigns (see systemd's table of
 * users). The kernel limits processes, watches and pipes per user, so a sandbox with its own user can't use up the limits of
 * others. Two sandboxes that get the same user by chance share these limits and nothing else.
 */
const firstOwnUser = 0x7000_0000
const ownUsers = 0x0100_0000

/** Whether this process's user namespace, which may be a container's, has that user. */
const isMapped = (user: number): boolean =>
  (readText("/proc/self/uid_map") ?? "").split("\n").some((line) => {
    const [first = 0, , count = 0] = line.trim().split(/\s+/).map(Number)
    return user >= first && user < first + count
  })

/** The limit of processes in a sandbox. The host's own hard limit may be lower, and can't be raised. */
const readProcessLimit = async (): Promise<number> => {
  const limits = await readFile("/proc/self/limits", "utf8").catch(() => "")
  const hard = /^Max processes\s+\S+\s+(\S+)/m.exec(limits)?.[1]
  return Math.min(processHardLimit, hard === undefined || hard === "unlimited" ? processHardLimit : Number(hard))
}

/** Whether no program ever ran in the sandbox, nor in one whose snapshot it was made from. */
const isNew = ({ chain, status }: Pick<SandboxRecord, "chain" | "status">): boolean =>
  status === "pending" && chain.length === 0

/** The protections of sandboxes on this host, in the form of `SandboxProvider.supports`. */
const protectionsOf = (
  { filter, noNewPrivileges, ownKeyring, reason }: Hardening,
  hasOwnUsers: boolean
): ReadonlyArray<Protection> => {
  const unless = (holds: boolean, why = "unknown") => (holds ? {} : { reason: why })
  return [
    { name: "locked_mounts", holds: true },
    // `setpriv` sets it for a program that enters a sandbox if the spawner does not have it.
    { name: "no_new_privileges", holds: true, ...(noNewPrivileges ? {} : { reason: "by setpriv, for each program" }) },
    { name: "system_call_filter", holds: filter, ...unless(filter, reason) },
    { name: "own_keyring", holds: ownKeyring, ...unless(ownKeyring, reason) },
    {
      name: "user_per_sandbox",
      holds: hasOwnUsers,
      ...unless(hasOwnUsers, "the server is not root, so sandboxes share the kernel's limits of one user")
    },
    { name: "own_network", holds: true },
    { name: "memory_limit", holds: false, reason: "memory of a sandbox is not limited" },
    { name: "disk_quota", holds: false, reason: "a sandbox is ended once its measured disk usage exceeds the limit" }
  ]
}

const userOf = ({ user }: Pick<SandboxRecord, "user">) => isRoot && (user ?? sharedSandboxUid)

const prepare = (sandbox: SandboxLayout, record: Pick<SandboxRecord, "chain" | "user">) =>
  attemptSync("create", () => {
    const user = userOf(record)
    const make = (directory: string) => {
      mkdirSync(directory, { recursive: true, mode: 0o755 })
      if (!isDirectory(directory)) throw new Error(`${directory} is not a directory`)
      if (user !== false) lchownSync(directory, user, user)
    }
    // The sandbox's own files are hostile once a program has run in it: only new ones are opened here.
    const hasNoFiles = !existsSync(sandbox.upper)
    const { commands, extra, mountedFiles, mountedRoot, root, upper, work } = sandbox
    for (const directory of [upper, work, mountedRoot, mountedFiles, extra, commands, root]) make(directory)
    if (hasNoFiles && record.chain.length === 0 && user !== sharedSandboxUid) {
      for (const directory of ["home", ...ownDirectories, "var/tmp"]) make(join(upper, directory))
    }
  })

/** The command that runs the launch script as root of a new user namespace. */
const launchCommand = (
  script: string,
  record: Pick<SandboxRecord, "name" | "chain" | "status">,
  token: string,
  processes: number
) => {
  const unshare = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"]
  const args = [record.name, token, String(processes), isNew(record) ? "new" : ""]
  return [...unshare, "sh", "-c", script, "launch", ...args]
}

/**
 * The command prefix that enters a sandbox. `nsenter` is loaded from the host before it changes namespaces and starts the
 * program as the sandbox's user, so nothing that it starts can get more privileges than it has.
 */
const enterCommand = (hardened: Hardening, pid: number) => [
  ...(hardened.noNewPrivileges ? [] : ["setpriv", "--no-new-privs", "--"]),
  "nsenter",
  "--user",
  "--mount",
  "--ipc",
  "--uts",
  "--cgroup",
  "--net",
  // The first process created the process namespace of the sandbox's programs but is not in it.
  `--pid=/proc/${pid}/ns/pid_for_children`,
  "--preserve-credentials",
  "--target",
  String(pid),
  "--",
  // A program could signal its whole process group, including processes outside of its namespace.
  "setsid"
]

const enterNetworkCommand = (pid: number) =>
  [
    ["setpriv", "--no-new-privs", "--"],
    ["nsenter", "--user", "--net", "--preserve-credentials", "--target", String(pid), "--"]
  ].flat()

const countProcesses = ({ pid }: ProcessIdentity) => {
  try {
    return readdirSync(`/proc/${pid}/root/proc`).filter((name) => /^\d+$/.test(name)).length
  } catch {
    return 0
  }
}

/** `script` starts a sandbox; only tests of its protections replace `launch`. */
export const make = Effect.fnUntraced(function* (layout: Layout, script = launch) {
  const node = yield* attempt("open", () => ensureNodeLayer(layout.runtime))
  const fstabsOf = makeFstabs(node)
  const processes = yield* attempt("probe", () => readProcessLimit())
  const hardened = yield* hardening
  // More starts at once than the host can run in parallel would only delay each other.
  const startPermits = yield* Semaphore.make(availableParallelism() * 2 + 2)
  const hasOwnUsers = isRoot && isMapped(firstOwnUser + ownUsers - 1)

  const start = Effect.fnUntraced(function* (
    sandbox: SandboxLayout,
    record: Pick<SandboxRecord, "name" | "chain" | "status" | "user">,
    token: string,
    within: Duration.Duration
  ) {
    const command = launchCommand(script, record, token, processes)
    const program = { command, cwd: sandbox.root, user: userOf(record) }
    const { code, stderr, stdout } = yield* Effect.timeoutOrElse(runUntil("boot", program, "ready"), {
      duration: within,
      orElse: () => {
        const cause = new BootTimedOut(`the sandbox did not start within ${Duration.toSeconds(within)} seconds`)
        return Effect.fail(new SandboxUnavailable({ operation: "boot", retryable: false, cause }))
      }
    })
    if (/^ready$/m.test(stdout)) return
    const cause = new Error(`the sandbox did not start (exit ${code}): ${stderr.trim()}`)
    return yield* new SandboxUnavailable({ operation: "boot", retryable: code === staleStartCode, cause })
  })

  const boot = Effect.fnUntraced(function* (
    sandbox: SandboxLayout,
    record: Pick<SandboxRecord, "name" | "chain" | "registry" | "status" | "user">,
    token: string,
    within = bootTimeout
  ) {
    yield* attemptSync("prepare", () => {
      const extra = extraDirectories([sandbox.upper, ...record.chain.map((id) => layout.layer(id))])
      for (const name of extra) mkdirSync(join(sandbox.extra, name), { recursive: true })
      const { first, ofFiles } = fstabsOf(record, extra)
      writeFileSync(join(sandbox.root, "others"), extra.map((name) => `${name}\n`).join(""))
      writeFileSync(join(sandbox.root, "fstab"), isNew(record) ? first + ofFiles : first)
      writeFileSync(join(sandbox.root, "fstab.files"), ofFiles)
    })
    yield* startPermits.withPermits(1)(start(sandbox, record, token, within))
    const init = parseStat(yield* attemptSync("find", () => readFileSync(sandbox.init, "utf8")))
    return init ?? (yield* new SandboxUnavailable({ operation: "boot", retryable: false, cause: "no first process" }))
  })

  const isolation: Isolation = {
    kind: "namespaces",
    protections: protectionsOf(hardened, hasOwnUsers),
    prepare,
    boot,
    userOf,
    allocateUser: () => (hasOwnUsers ? { user: firstOwnUser + randomInt(ownUsers) } : {}),
    version: 2,
    enterCommand: (_, { pid }) => enterCommand(hardened, pid),
    sharesNetwork: false,
    enterNetworkCommand: ({ pid }) => enterNetworkCommand(pid),
    npmSearchPath: () => `/${npmDirectory}/bin`,
    // The kernel kills all processes of a process namespace with its first process.
    killRemaining: () => Effect.void,
    homeDirectory: () => home,
    countProcesses
  }
  return isolation
})
