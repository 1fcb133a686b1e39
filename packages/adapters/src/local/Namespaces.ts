/** Sandboxes in Linux namespaces, with util-linux alone. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Semaphore } from "effect"
import { chownSync, existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { mkdir, readFile, writeFile } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { attempt, attemptNow, parseStat } from "./Host.ts"
import { type Booted, BootTimedOut, type Isolation, processCap } from "./Isolation.ts"
import { layout, readText, type SandboxLayout } from "./Layout.ts"
import type { Spec } from "./Machines.ts"
import { npmDirectory } from "./Npm.ts"
import { heldAs, home, inTheWay, launch } from "./scripts.ts"
import { isRoot, sandboxUid } from "./Spawn.ts"
import { spawned } from "./Spawner.ts"

export type Network = "none" | "host"

/** How long a sandbox may take to come up. It takes some 30 ms on an idle host, and many seconds on one that is overloaded. */
const bootTimeout = Duration.minutes(1)

const devices = ["null", "zero", "full", "random", "urandom", "tty"]

/** What programs need of the host's `/etc` to link, to know the time, and to trust certificates; read-only. */
const shared = [
  "alternatives",
  "ssl",
  "ca-certificates",
  "pki",
  "ld.so.cache",
  "ld.so.conf",
  "ld.so.conf.d",
  "localtime"
]

const private_ = {
  "etc/passwd": `root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:${home}:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n`,
  "etc/group": "root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n",
  "etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
  "etc/hostname": "sandbox\n",
  "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
  "etc/resolv.conf": ""
}

/** Where sandboxes that have npm see it. */
const npmInside = "opt/castellan/npm"

/** What of the host's root is not a link into `/usr` and has to be bound like it. */
const system = ["bin", "sbin", "lib", "lib64", "lib32"]

/** Makes the lowest layer, which every sandbox has: mount points, and an `/etc` of its own. */
export const makeBase = async (base: string): Promise<void> => {
  const { lstat, readlink, symlink } = await import("node:fs/promises")
  const directories = [
    "usr",
    "proc",
    "dev/shm",
    "tmp",
    "run",
    "var/tmp",
    "etc",
    "opt/castellan/bin",
    npmInside,
    home.slice(1),
    "mnt"
  ]
  for (const directory of directories) await mkdir(join(base, directory), { recursive: true })
  for (const name of system) {
    const stat = await lstat(`/${name}`).catch(() => undefined)
    if (stat?.isSymbolicLink()) await symlink(await readlink(`/${name}`), join(base, name)).catch(() => undefined)
    else if (stat?.isDirectory()) await mkdir(join(base, name), { recursive: true })
  }
  // Sandboxes may stand on it already: nothing is written that is there.
  const place = async (file: string, text: string) => {
    if (readText(join(base, file)) !== text) await writeFile(join(base, file), text)
  }
  for (const [file, text] of Object.entries(private_)) await place(file, text)
  for (const device of devices) await place(join("dev", device), "")
  const links = { fd: "/proc/self/fd", stdin: "/proc/self/fd/0", stdout: "/proc/self/fd/1", stderr: "/proc/self/fd/2" }
  for (const [link, target] of Object.entries(links)) {
    await symlink(target, join(base, "dev", link)).catch(() => undefined)
  }
  await place("opt/castellan/bin/node", "")
  for (const name of shared) {
    const stat = await lstat(join("/etc", name)).catch(() => undefined)
    if (stat?.isDirectory()) await mkdir(join(base, "etc", name), { recursive: true })
    else if (stat !== undefined) await place(join("etc", name), "")
  }
}

/** What is mounted over a sandbox's root: the source, where, of which type, and how. */
type Mount = readonly [source: string, target: string, type: string, options: string]

/**
 * npm for a sandbox that has it, and nothing in its place for others: so that none can remove the place, which would be
 * missed by whoever has npm and boots from its snapshot.
 */
const npmMount = (registry: boolean | undefined): Mount =>
  registry
    ? [`/tmp/runtime/${npmDirectory()}`, npmInside, "none", "bind,ro,nosuid,nodev"]
    : ["tmpfs", npmInside, "tmpfs", "ro,nosuid,nodev,noexec,size=4k,mode=755"]

const isDirectory = (path: string) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true

/**
 * The mounts that all sandboxes have, over the overlay of their own; looked up once. What the host forbids on a mount of
 * its own may not be allowed again on one made of it, so each forbids all that nothing in it needs.
 */
const mountsOfHost = (network: Network): ReadonlyArray<Mount> => [
  ["/usr", "usr", "none", "rbind,ro,nosuid,nodev"],
  ...system
    .filter((name) => isDirectory(`/${name}`))
    .map((name): Mount => [`/${name}`, name, "none", "rbind,ro,nosuid,nodev"]),
  ["/tmp/runtime/node", "opt/castellan/bin/node", "none", "bind,ro,nosuid,nodev"],
  ...[...shared, ...(network === "host" ? ["resolv.conf"] : [])]
    .filter((name) => existsSync(`/etc/${name}`))
    .map((name): Mount => [`/etc/${name}`, `etc/${name}`, "none", "bind,ro,nosuid,nodev,noexec"]),
  ...devices.map((name): Mount => [`/dev/${name}`, `dev/${name}`, "none", "bind,nosuid,noexec"]),
  ["proc", "proc", "proc", "nosuid,nodev,noexec"],
  ["tmpfs", "dev/shm", "tmpfs", "nosuid,nodev,size=64m,mode=1777"],
  ["tmpfs", "tmp", "tmpfs", "nosuid,nodev,size=512m,mode=1777"]
]

const fstab = (name: string, chain: ReadonlyArray<string>, mounts: ReadonlyArray<Mount>): string => {
  const own = `/tmp/sandboxes/${name}`
  const lower = [...chain, "base"].map((id) => `/tmp/layers/${id}`).join(":")
  const overlay = `overlay ${own}/root overlay lowerdir=${lower},upperdir=${own}/upper,workdir=${own}/work,userxattr 0 0`
  const others = mounts.map(
    ([source, target, type, options]) => `${source} ${own}/root/${target} ${type} ${options} 0 0`
  )
  return [overlay, ...others, ""].join("\n")
}

/** The host's own limit may be lower, and can't be raised. */
const processesAllowed = async (): Promise<number> => {
  const limits = await readFile("/proc/self/limits", "utf8").catch(() => "")
  const hard = /^Max processes\s+\S+\s+(\S+)/m.exec(limits)?.[1]
  return Math.min(processCap, hard === undefined || hard === "unlimited" ? processCap : Number(hard))
}

export const make = Effect.fnUntraced(function* (root: string, network: Network) {
  const files = layout(root)
  const drop = isRoot
  const mounts = mountsOfHost(network)
  const limit = yield* attempt("probe", () => processesAllowed())
  // More at once than the host has processors for only makes each of them later.
  const launching = yield* Semaphore.make(availableParallelism() * 2 + 2)

  const prepare = (sandbox: SandboxLayout) =>
    attemptNow("create", () => {
      for (const directory of [sandbox.upper, sandbox.work, join(sandbox.root, "root"), sandbox.commands]) {
        mkdirSync(directory, { recursive: true, mode: 0o755 })
        if (drop) chownSync(directory, sandboxUid, sandboxUid)
      }
      if (drop) chownSync(sandbox.root, sandboxUid, sandboxUid)
    })

  const launched = Effect.fnUntraced(function* (
    sandbox: SandboxLayout,
    name: string,
    start: string,
    within: Duration.Duration
  ) {
    const namespaces = ["--user", "--map-root-user", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork"]
    const unshare = ["unshare", ...namespaces, ...(network === "none" ? ["--net"] : [])]
    const script = ["sh", "-c", launch, "launch", name, network === "none" ? "lo" : "host", start]
    const { code, stderr, stdout } = yield* spawned(
      "boot",
      { command: [...unshare, ...script], cwd: sandbox.root, drop },
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
    const keeper = /^ready (\d+)$/m.exec(stdout)?.[1]
    if (keeper !== undefined) return Number(keeper)
    const cause = new Error(`the sandbox did not come up (exit ${code}): ${stderr.trim()}`)
    return yield* new SandboxUnavailable({ operation: "boot", retryable: code === inTheWay, cause })
  })

  const boot = Effect.fnUntraced(function* (
    sandbox: SandboxLayout,
    { chain, name, registry }: Pick<Spec, "name" | "chain" | "registry">,
    start: string,
    within = bootTimeout
  ) {
    yield* attemptNow("prepare", () => {
      writeFileSync(join(sandbox.root, "fstab"), fstab(name, chain, [...mounts, npmMount(registry)]))
    })
    const keeper = yield* launching.withPermits(1)(launched(sandbox, name, start, within))
    const init = parseStat(yield* attemptNow("find", () => readFileSync(sandbox.init, "utf8")))
    return init === undefined
      ? yield* new SandboxUnavailable({ operation: "boot", retryable: false, cause: "no first process" })
      : { init, keeper }
  })

  const enterAsRoot = (_: SandboxLayout, { init }: Booted) =>
    [
      ["nsenter", "--user", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--root", "--wd"],
      // The host's network is not the sandbox's to enter, and what enters is in it already.
      network === "none" ? ["--net"] : [],
      ["--preserve-credentials", "--target", String(init.pid), "--"]
    ].flat()

  /** Sandboxes that an older server brought up have a process of that namespace in place of the descriptor. */
  const userOf = ({ keeper }: Booted) => (keeper === 1 ? `/proc/1/fd/${heldAs}` : `/proc/${keeper}/ns/user`)

  const enter = (sandbox: SandboxLayout, booted: Booted) =>
    [
      enterAsRoot(sandbox, booted),
      ["nsenter", `--user=${userOf(booted)}`, "--preserve-credentials", "--"],
      ["prlimit", `--nproc=${limit}`, "--core=0", "--"],
      ["setpriv", "--no-new-privs", "--"]
    ].flat()

  const isolation: Isolation = {
    kind: "namespaces",
    drop,
    prepare,
    boot,
    enter,
    enterAsRoot,
    sharesNetwork: network === "host",
    enterNetwork: ({ pid }) =>
      [
        ["nsenter", "--user", "--net", "--preserve-credentials", "--target", String(pid), "--"],
        ["setpriv", "--no-new-privs", "--bounding-set=-all", "--"]
      ].flat(),
    npmPath: () => `/${npmInside}/bin`,
    // The kernel ends what is in a process name space with its first process.
    sweep: () => Effect.void,
    home: () => home,
    processes: ({ init }) => {
      try {
        return readdirSync(`/proc/${init.pid}/root/proc`).filter((name) => /^\d+$/.test(name)).length
      } catch {
        return 0
      }
    }
  }
  return { isolation, files }
})
