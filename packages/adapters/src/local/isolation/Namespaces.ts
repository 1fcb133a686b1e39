/** Sandboxes in Linux namespaces, made with util-linux. */
import { type Protection, SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Semaphore } from "effect"
import {
  constants,
  existsSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  opendirSync,
  readdirSync,
  readFileSync,
  writeFileSync
} from "node:fs"
import { chmod, copyFile, lstat, mkdir, readFile, readlink, rename, rm, symlink, writeFile } from "node:fs/promises"
import { randomInt } from "node:crypto"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import type { Hardening } from "./hardening.ts"
import { attempt, attemptNow, parseStat, type ProcessMark } from "../process/Host.ts"
import { BootTimedOut, type Isolation, processCap } from "./Isolation.ts"
import { fresh, type Layout, readText, type SandboxLayout } from "../sandbox/Layout.ts"
import type { Spec } from "../sandbox/Machines.ts"
import { npmInside, npmLayer } from "../network/Npm.ts"
import { etcDirectories, etcFiles, fixedFiles, home, inTheWay, launch, ownDirectories, userFiles } from "./scripts.ts"
import { isRoot, sandboxUid } from "../process/Spawn.ts"
import { hardening, spawned } from "../process/Spawner.ts"

export type Network = "none" | "host"

/** How long a sandbox may take to come up. It takes some 30 ms on an idle host, and many seconds on one that is overloaded. */
const bootTimeout = Duration.minutes(1)

const devices = ["null", "zero", "full", "random", "urandom", "tty"]

/** The files of a new sandbox's `/etc`. */
const etc: Record<string, string> = {
  passwd: `root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:${home}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n`,
  group: "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
  hosts: "127.0.0.1 localhost sandbox\n::1 localhost\n",
  hostname: "sandbox\n",
  "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  "resolv.conf": ""
}

/** The directories of the host's root that every sandbox sees. A link among them becomes the same link in the sandbox. */
const system = ["usr", "bin", "sbin", "lib", "lib64", "lib32"]

/** The directories of a sandbox's root that are not its own files. */
const ofRoot = ["dev/shm", "proc", "run", "tmp", "usr"]

/** Writes a file, unless it already has that text: running sandboxes may use it. */
const place = async (file: string, text: string) => {
  if (readText(file) !== text) await writeFile(file, text)
}

/** Makes the lowest layer of every sandbox's files. */
export const makeBase = async (base: string): Promise<void> => {
  for (const directory of [...ownDirectories, ...etcDirectories.map((name) => `etc/${name}`), "var/tmp"]) {
    await mkdir(join(base, directory), { recursive: true })
  }
  for (const [name, text] of Object.entries(etc)) await place(join(base, "etc", name), text)
  for (const name of ["ld.so.preload", ...etcFiles]) await place(join(base, "etc", name), "")
}

/** Makes the root directory of sandboxes: places to mount on, and the links that the host has. It is mounted read-only. */
export const makeRoot = async (root: string): Promise<void> => {
  for (const directory of [...ofRoot, ...ownDirectories]) await mkdir(join(root, directory), { recursive: true })
  const link = (target: string, name: string) => symlink(target, join(root, name)).catch(() => undefined)
  for (const name of system) {
    const stat = await lstat(`/${name}`).catch(() => undefined)
    if (stat?.isSymbolicLink()) await link(await readlink(`/${name}`), name)
    else if (stat?.isDirectory()) await mkdir(join(root, name), { recursive: true })
  }
  await mkdir(join(root, fixedFiles), { recursive: true })
  for (const name of userFiles) await place(join(root, fixedFiles, name), etc[name]!)
  for (const device of devices) await place(join(root, "dev", device), "")
  const links = { fd: "/proc/self/fd", stdin: "/proc/self/fd/0", stdout: "/proc/self/fd/1", stderr: "/proc/self/fd/2" }
  for (const [name, target] of Object.entries(links)) await link(target, join("dev", name))
}

/**
 * The users that sandboxes run as when the server runs as root: a range that no distribution assigns (see systemd's table
 * of users). The kernel limits processes, watches and pipes per user, so a sandbox with a user of its own can't use up the
 * limits of others. If two sandboxes get the same user by chance, they share these limits and nothing else.
 */
const firstOwnUser = 0x7000_0000
const ownUsers = 0x0100_0000

/** Whether this process's user namespace, which may be a container's, has that user. */
const isMapped = (user: number): boolean =>
  (readText("/proc/self/uid_map") ?? "").split("\n").some((line) => {
    const [first = 0, , count = 0] = line.trim().split(/\s+/).map(Number)
    return user >= first && user < first + count
  })

/** What is mounted in a sandbox's root: the source, where, of which type, and how. */
type Mount = readonly [source: string, target: string, type: string, options: string]

const isDirectory = (path: string) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true

/** A path of `/proc/self/mountinfo`, which writes blanks, tabs, line feeds and backslashes as octal numbers. */
const unescaped = (field: string) =>
  field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))

/**
 * The mounts of this host below a directory, each with the options to remount it read-only in a sandbox: binding a tree
 * read-only does not change the mounts below it. Options that the host has set must be repeated, since only the host may
 * drop them.
 */
const mountsBelow = (directory: string): ReadonlyArray<Mount> =>
  (readText("/proc/self/mountinfo") ?? "").split("\n").flatMap((line): ReadonlyArray<Mount> => {
    const [, , , , at = "", options = ""] = line.split(" ")
    if (!unescaped(at).startsWith(`${directory}/`)) return []
    const kept = options.split(",").filter((option) => option !== "rw" && option !== "ro")
    return [["none", at.slice(1), "none", ["remount", "bind", "ro", "nosuid", "nodev", ...kept].join(",")]]
  })

const readOnly = (path: string): ReadonlyArray<Mount> => [
  [path, path.slice(1), "none", "rbind,ro,nosuid,nodev"],
  ...mountsBelow(path)
]

/** The mounts that all sandboxes have, apart from their own files; looked up once. */
const mountsOfHost = (): ReadonlyArray<Mount> => [
  ...system.filter((name) => isDirectory(`/${name}`)).flatMap((name) => readOnly(`/${name}`)),
  ...devices.map((name): Mount => [`/dev/${name}`, `dev/${name}`, "none", "bind,nosuid,noexec"]),
  ["proc", "proc", "proc", "nosuid,nodev,noexec"],
  ["tmpfs", "dev/shm", "tmpfs", "nosuid,nodev,size=64m,mode=1777"],
  ["tmpfs", "run", "tmpfs", "nosuid,nodev,size=16m,mode=755"],
  ["tmpfs", "tmp", "tmpfs", "nosuid,nodev,size=512m,mode=1777"]
]

/**
 * What is mounted over a sandbox's `/etc`: files of the host that programs need to link, to know the time zone and to trust
 * certificates, and an empty `ld.so.preload`.
 */
const mountsOfEtc = (network: Network): ReadonlyArray<Mount> => [
  ...[...etcFiles, ...etcDirectories, ...(network === "host" ? ["resolv.conf"] : [])]
    .filter((name) => existsSync(`/etc/${name}`))
    .map((name): Mount => [`/etc/${name}`, `etc/${name}`, "none", "bind,ro,nosuid,nodev,noexec"]),
  ["/dev/null", "etc/ld.so.preload", "none", "bind,ro,nosuid,noexec"]
]

const line = (own: string, [source, target, type, options]: Mount) =>
  `${source} ${own}/root/${target} ${type} ${options} 0 0\n`

/** A name that is mounted again if an earlier sandbox made a directory of that name at its root. */
const isPlainName = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/

/** How many such directories are mounted, and how many entries are looked at to find them. */
const atRoot = 64

/**
 * Directories at the root of a sandbox's files beyond the usual ones. Sandboxes could make them while their whole root was
 * writable.
 */
const othersAtRoot = (directories: ReadonlyArray<string>): ReadonlyArray<string> => {
  const usual = new Set([...ofRoot, ...ownDirectories, ...system].map((path) => path.split("/")[0]))
  const found = new Set<string>()
  for (const directory of directories) {
    if (!isDirectory(directory)) continue
    const opened = opendirSync(directory)
    try {
      for (let looked = 0; looked < atRoot; looked++) {
        const entry = opened.readSync()
        if (entry === null) break
        if (entry.isDirectory() && isPlainName.test(entry.name) && !usual.has(entry.name)) found.add(entry.name)
      }
    } finally {
      opened.closeSync()
    }
  }
  return [...found].slice(0, atRoot)
}

/**
 * Puts the pinned Node into a layer of its own, which all sandboxes have, and gives the layer's name. It is a copy: what
 * the host runs is never a file that a sandbox sees.
 */
const nodeLayer = async (runtime: string): Promise<string> => {
  const name = `layer-node-${process.version}`
  const target = join(runtime, name)
  if (existsSync(target)) return name
  const next = join(runtime, `next-node-${fresh()}`)
  const bin = join(next, "opt/castellan/bin")
  await mkdir(bin, { recursive: true, mode: 0o755 })
  await copyFile(process.execPath, join(bin, "node"), constants.COPYFILE_FICLONE)
  await chmod(join(bin, "node"), 0o755)
  // Another process may have put it there meanwhile.
  await rename(next, target).catch(async (cause) => {
    await rm(next, { recursive: true, force: true })
    if (!existsSync(target)) throw cause
  })
  return name
}

/** The host's own limit may be lower, and can't be raised. */
const processesAllowed = async (): Promise<number> => {
  const limits = await readFile("/proc/self/limits", "utf8").catch(() => "")
  const hard = /^Max processes\s+\S+\s+(\S+)/m.exec(limits)?.[1]
  return Math.min(processCap, hard === undefined || hard === "unlimited" ? processCap : Number(hard))
}

/** Whether no program ever ran in the sandbox, nor in one that it stands on. */
const isNew = ({ chain, status }: Pick<Spec, "chain" | "status">): boolean => status === "pending" && chain.length === 0

/** What keeps sandboxes apart on this host. */
const protectionsOf = (
  { filter, noNewPrivileges, ownKeyring, reason }: Hardening,
  network: Network,
  hasOwnUsers: boolean
): ReadonlyArray<Protection> => {
  const unless = (holds: boolean, why = "unknown") => (holds ? {} : { reason: why })
  return [
    { name: "locked_mounts", holds: true },
    // A program that enters a sandbox gets it from `setpriv` where its parent does not have it.
    { name: "no_new_privileges", holds: true, ...(noNewPrivileges ? {} : { reason: "by setpriv, for each program" }) },
    { name: "system_call_filter", holds: filter, ...unless(filter, reason) },
    { name: "own_keyring", holds: ownKeyring, ...unless(ownKeyring, reason) },
    {
      name: "user_per_sandbox",
      holds: hasOwnUsers,
      ...unless(hasOwnUsers, "the server is not root, so sandboxes share the kernel's limits of one user")
    },
    {
      name: "own_network",
      holds: network === "none",
      ...unless(network === "none", "CASTELLAN_LOCAL_NETWORK shares the host's network")
    },
    { name: "memory_limit", holds: false, reason: "memory of a sandbox is not limited" },
    { name: "disk_quota", holds: false, reason: "a sandbox is ended once it is seen to take too much of the disk" }
  ]
}

/** `script` brings a sandbox up; only tests of what it protects from use another one than `launch`. */
export const make = Effect.fnUntraced(function* (files: Layout, network: Network, script = launch) {
  const mounts = mountsOfHost()
  const etcMounts = mountsOfEtc(network)
  const node = yield* attempt("open", () => nodeLayer(files.runtime))
  const processes = yield* attempt("probe", () => processesAllowed())
  const hardened = yield* hardening
  // More at once than the host has processors for only makes each of them later.
  const launching = yield* Semaphore.make(availableParallelism() * 2 + 2)

  const hasOwnUsers = isRoot && isMapped(firstOwnUser + ownUsers - 1)

  const userOf = ({ user }: Pick<Spec, "user">) => isRoot && (user ?? sandboxUid)

  const prepare = (sandbox: SandboxLayout, spec: Pick<Spec, "chain" | "user">) =>
    attemptNow("create", () => {
      const id = userOf(spec)
      const make = (directory: string) => {
        mkdirSync(directory, { recursive: true, mode: 0o755 })
        if (!isDirectory(directory)) throw new Error("the sandbox has something else in place of a directory")
        if (id !== false) lchownSync(directory, id, id)
      }
      // What lies in an own file system is hostile once a program has run in it: only a new one is looked into here.
      const isNew = !existsSync(sandbox.upper)
      for (const directory of [sandbox.upper, sandbox.work, sandbox.mount, sandbox.files, sandbox.extra])
        make(directory)
      for (const directory of [sandbox.commands, sandbox.root]) make(directory)
      if (isNew && spec.chain.length === 0 && id !== sandboxUid) {
        for (const directory of ["home", ...ownDirectories, "var/tmp"]) make(join(sandbox.upper, directory))
      }
    })

  const fstabs = (sandbox: SandboxLayout, { chain, name, registry }: Pick<Spec, "name" | "chain" | "registry">) => {
    const own = `/tmp/sandboxes/${name}`
    const others = othersAtRoot([sandbox.upper, ...chain.map((id) => files.layer(id))])
    for (const other of others) mkdirSync(join(sandbox.extra, other), { recursive: true })
    const lower = [
      ...chain.map((id) => `/tmp/layers/${id}`),
      ...(registry ? [`/tmp/runtime/${npmLayer()}`] : []),
      `/tmp/runtime/${node}`,
      "/tmp/layers/base"
    ].join(":")
    const upper = `upperdir=${own}/upper,workdir=${own}/work`
    const overlays = [
      `overlay ${own}/root overlay lowerdir=${own}/extra:/tmp/runtime/root,userxattr,nosuid,nodev 0 0\n`,
      `overlay ${own}/files overlay lowerdir=${lower},${upper},userxattr,nosuid,nodev 0 0\n`
    ]
    const bound = [...ownDirectories, ...others].map(
      (path) => `${own}/files/${path} ${own}/root/${path} none bind,nosuid,nodev 0 0\n`
    )
    const fixed = userFiles.map(
      (name) => `${own}/root/${fixedFiles}/${name} ${own}/root/etc/${name} none bind,ro,nosuid,nodev,noexec 0 0\n`
    )
    return {
      first: [...overlays, ...mounts.map((mount) => line(own, mount))].join(""),
      ofFiles: [...bound, ...fixed, ...etcMounts.map((mount) => line(own, mount))].join(""),
      others: others.map((name) => `${name}\n`).join("")
    }
  }

  const launched = Effect.fnUntraced(function* (
    sandbox: SandboxLayout,
    spec: Pick<Spec, "name" | "chain" | "status" | "user">,
    start: string,
    within: Duration.Duration
  ) {
    const unshare = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"]
    const shell = [
      "sh",
      "-c",
      script,
      "launch",
      spec.name,
      network === "none" ? "lo" : "host",
      start,
      String(processes),
      isNew(spec) ? "new" : ""
    ]
    const { code, stderr, stdout } = yield* spawned(
      "boot",
      { command: [...unshare, ...shell], cwd: sandbox.root, user: userOf(spec) },
      "ready"
    ).pipe(
      Effect.timeoutOrElse({
        duration: within,
        orElse: () => {
          const cause = new BootTimedOut(`the sandbox did not come up within ${Duration.toSeconds(within)} seconds`)
          return Effect.fail(new SandboxUnavailable({ operation: "boot", retryable: false, cause }))
        }
      })
    )
    if (/^ready$/m.test(stdout)) return
    const cause = new Error(`the sandbox did not come up (exit ${code}): ${stderr.trim()}`)
    return yield* new SandboxUnavailable({ operation: "boot", retryable: code === inTheWay, cause })
  })

  const boot = Effect.fnUntraced(function* (
    sandbox: SandboxLayout,
    spec: Pick<Spec, "name" | "chain" | "registry" | "status" | "user">,
    start: string,
    within = bootTimeout
  ) {
    yield* attemptNow("prepare", () => {
      const { first, ofFiles, others } = fstabs(sandbox, spec)
      writeFileSync(join(sandbox.root, "others"), others)
      writeFileSync(join(sandbox.root, "fstab"), isNew(spec) ? first + ofFiles : first)
      writeFileSync(join(sandbox.root, "fstab.files"), ofFiles)
    })
    yield* launching.withPermits(1)(launched(sandbox, spec, start, within))
    const init = parseStat(yield* attemptNow("find", () => readFileSync(sandbox.init, "utf8")))
    return init ?? (yield* new SandboxUnavailable({ operation: "boot", retryable: false, cause: "no first process" }))
  })

  /**
   * One program of the host, which is loaded before it changes namespaces, starts the sandbox's program as the sandbox's
   * user. Nothing that it starts can get more privileges than it has.
   */
  const enter = (_: SandboxLayout, { pid }: ProcessMark) => [
    ...(hardened.noNewPrivileges ? [] : ["setpriv", "--no-new-privs", "--"]),
    "nsenter",
    "--user",
    "--mount",
    "--ipc",
    "--uts",
    "--cgroup",
    ...(network === "none" ? ["--net"] : []),
    // The first process has made the namespace of what runs in the sandbox, and is not in it.
    `--pid=/proc/${pid}/ns/pid_for_children`,
    "--preserve-credentials",
    "--target",
    String(pid),
    "--",
    // A program could signal all of its process group, also those outside of its namespace.
    "setsid"
  ]

  const isolation: Isolation = {
    kind: "namespaces",
    protections: protectionsOf(hardened, network, hasOwnUsers),
    prepare,
    boot,
    userOf,
    newUser: () => (hasOwnUsers ? { user: firstOwnUser + randomInt(ownUsers) } : {}),
    form: 2,
    enter,
    sharesNetwork: network === "host",
    enterNetwork: ({ pid }) =>
      [
        ["setpriv", "--no-new-privs", "--"],
        ["nsenter", "--user", "--net", "--preserve-credentials", "--target", String(pid), "--"]
      ].flat(),
    npmPath: () => `/${npmInside}/bin`,
    // The kernel ends what is in a process name space with its first process.
    sweep: () => Effect.void,
    home: () => home,
    processes: ({ pid }) => {
      try {
        return readdirSync(`/proc/${pid}/root/proc`).filter((name) => /^\d+$/.test(name)).length
      } catch {
        return 0
      }
    }
  }
  return isolation
})
