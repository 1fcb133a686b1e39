/** Sandboxes in Linux namespaces, with util-linux alone. */
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect, Semaphore } from "effect"
import { existsSync, readdirSync } from "node:fs"
import { chown, mkdir, readFile, writeFile } from "node:fs/promises"
import { availableParallelism } from "node:os"
import { join } from "node:path"
import { attempt, parseStat } from "./Host.ts"
import { type Booted, type Isolation, processCap } from "./Isolation.ts"
import { layout, type SandboxLayout } from "./Layout.ts"
import { home, launch } from "./scripts.ts"
import { isRoot, sandboxUid } from "./Spawn.ts"
import { spawned } from "./Spawner.ts"

export type Network = "none" | "host"

/** Seconds after which a sandbox ends even if no server is there to end it. */
const longestLife = 7 * 24 * 60 * 60

/** How long a sandbox may take to come up. */
const bootTimeout = "20 seconds"

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
    home.slice(1),
    "mnt"
  ]
  for (const directory of directories) await mkdir(join(base, directory), { recursive: true })
  for (const name of system) {
    const stat = await lstat(`/${name}`).catch(() => undefined)
    if (stat?.isSymbolicLink()) await symlink(await readlink(`/${name}`), join(base, name)).catch(() => undefined)
    else if (stat?.isDirectory()) await mkdir(join(base, name), { recursive: true })
  }
  for (const [file, text] of Object.entries(private_)) await writeFile(join(base, file), text)
  for (const device of devices) await writeFile(join(base, "dev", device), "")
  const links = { fd: "/proc/self/fd", stdin: "/proc/self/fd/0", stdout: "/proc/self/fd/1", stderr: "/proc/self/fd/2" }
  for (const [link, target] of Object.entries(links)) {
    await symlink(target, join(base, "dev", link)).catch(() => undefined)
  }
  await writeFile(join(base, "opt/castellan/bin/node"), "")
  for (const name of shared) {
    const stat = await lstat(join("/etc", name)).catch(() => undefined)
    if (stat?.isDirectory()) await mkdir(join(base, "etc", name), { recursive: true })
    else if (stat !== undefined) await writeFile(join(base, "etc", name), "")
  }
}

const fstab = (name: string, chain: ReadonlyArray<string>, network: Network): string => {
  const own = `/tmp/sandboxes/${name}`
  const lower = [...chain, "base"].map((id) => `/tmp/layers/${id}`).join(":")
  const bound = (source: string, target: string, options: string) =>
    `${source} ${own}/root/${target} none ${options} 0 0`
  return [
    `overlay ${own}/root overlay lowerdir=${lower},upperdir=${own}/upper,workdir=${own}/work,userxattr 0 0`,
    bound("/usr", "usr", "rbind,ro,nosuid"),
    ...system
      .filter((directory) => existsSync(`/${directory}`) && !isLink(`/${directory}`))
      .map((directory) => bound(`/${directory}`, directory, "rbind,ro,nosuid")),
    bound("/tmp/runtime/node", "opt/castellan/bin/node", "bind,ro,nosuid"),
    ...shared
      .filter((file) => existsSync(`/etc/${file}`))
      .map((file) => bound(`/etc/${file}`, `etc/${file}`, "bind,ro,nosuid,nodev")),
    ...(network === "host" ? [bound("/etc/resolv.conf", "etc/resolv.conf", "bind,ro,nosuid,nodev")] : []),
    ...devices.map((device) => bound(`/dev/${device}`, `dev/${device}`, "bind,nosuid")),
    `proc ${own}/root/proc proc nosuid,nodev,noexec 0 0`,
    `tmpfs ${own}/root/dev/shm tmpfs nosuid,nodev,size=64m,mode=1777 0 0`,
    `tmpfs ${own}/root/tmp tmpfs nosuid,nodev,size=512m,mode=1777 0 0`,
    ""
  ].join("\n")
}

const isLink = (path: string): boolean => {
  try {
    return readdirSync("/", { withFileTypes: true }).some(
      (entry) => `/${entry.name}` === path && entry.isSymbolicLink()
    )
  } catch {
    return false
  }
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
  const limit = yield* attempt("probe", () => processesAllowed())
  // More at once than the host has processors for only makes each of them later.
  const launching = yield* Semaphore.make(availableParallelism() * 2 + 2)

  const prepare = (sandbox: SandboxLayout) =>
    attempt("create", async () => {
      for (const directory of [sandbox.upper, sandbox.work, join(sandbox.root, "root"), sandbox.commands]) {
        await mkdir(directory, { recursive: true, mode: 0o755 })
        if (drop) await chown(directory, sandboxUid, sandboxUid)
      }
      if (drop) await chown(sandbox.root, sandboxUid, sandboxUid)
    })

  const launched = Effect.fnUntraced(function* (sandbox: SandboxLayout, name: string) {
    const namespaces = ["--user", "--map-root-user", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork"]
    const unshare = ["unshare", ...namespaces, ...(network === "none" ? ["--net"] : [])]
    const script = ["sh", "-c", launch, "launch", name, String(longestLife), network === "none" ? "lo" : "host"]
    const { code, stderr, stdout } = yield* spawned(
      "boot",
      { command: [...unshare, ...script], cwd: sandbox.root, drop },
      "ready"
    ).pipe(
      Effect.timeoutOrElse({
        duration: bootTimeout,
        orElse: () => Effect.succeed({ code: 137, stdout: "", stderr: "it took too long" })
      })
    )
    const keeper = /^ready (\d+)$/m.exec(stdout)?.[1]
    if (keeper !== undefined) return Number(keeper)
    const cause = new Error(`the sandbox did not come up (exit ${code}): ${stderr.trim()}`)
    return yield* new SandboxUnavailable({ operation: "boot", retryable: false, cause })
  })

  const boot = Effect.fnUntraced(function* (sandbox: SandboxLayout, name: string, chain: ReadonlyArray<string>) {
    yield* attempt("boot", () => writeFile(join(sandbox.root, "fstab"), fstab(name, chain, network)))
    const keeper = yield* launching.withPermits(1)(launched(sandbox, name))
    const init = parseStat(yield* attempt("boot", () => readFile(sandbox.init, "utf8")))
    return init === undefined
      ? yield* new SandboxUnavailable({ operation: "boot", retryable: false, cause: "no first process" })
      : { init, keeper }
  })

  const enterAsRoot = (_: SandboxLayout, { init }: Booted) =>
    [
      ["nsenter", "--user", "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup", "--root", "--wd"],
      ["--preserve-credentials", "--target", String(init.pid), "--"]
    ].flat()

  const enter = (sandbox: SandboxLayout, booted: Booted) =>
    [
      enterAsRoot(sandbox, booted),
      ["nsenter", `--user=/proc/${booted.keeper}/ns/user`, "--preserve-credentials", "--"],
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
