/** Opens the provider's directory, and finds out by doing it whether sandboxes can be isolated here. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import type { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Effect } from "effect"
import { chmod, copyFile, link, mkdir, rename, rm, stat, writeFile } from "node:fs/promises"
import { platform } from "node:os"
import { join, resolve } from "node:path"
import { attempt, killProcess } from "./Host.ts"
import { type Isolation, LocalUnavailable } from "./Isolation.ts"
import { fresh, type Layout, layout as layoutOf } from "./Layout.ts"
import * as Locks from "./Locks.ts"
import * as Namespaces from "./Namespaces.ts"
import type { LocalOptions } from "./Options.ts"
import * as Plain from "./Plain.ts"
import { isRoot, sandboxUid } from "./Spawn.ts"
import { run } from "./Spawner.ts"

/** Node itself in the data directory, so that no directory above its own need be open to sandboxes. */
const placeNode = async (target: string): Promise<void> => {
  const [source, known] = await Promise.all([stat(process.execPath), stat(target).catch(() => undefined)])
  if (known?.size === source.size && known.mtimeMs >= source.mtimeMs) return
  const next = `${target}.next`
  await rm(next, { force: true })
  await link(process.execPath, next).catch(() => copyFile(process.execPath, next))
  if (((await stat(next)).mode & 0o005) !== 0o005) await chmod(next, 0o755)
  // Sandboxes of other processes may come up meanwhile: there is always one.
  await rename(next, target)
}

const prepare = async (layout: Layout): Promise<void> => {
  const open = [layout.root, layout.runtime, layout.sandboxes, layout.layers, join(layout.root, "flat")]
  for (const directory of open) {
    await mkdir(directory, { recursive: true })
    await chmod(directory, 0o711)
  }
  for (const directory of [layout.snapshots, layout.trash]) await mkdir(directory, { recursive: true, mode: 0o700 })
  await placeNode(layout.node)
  const base = layout.layer("base")
  await mkdir(base, { recursive: true, mode: 0o755 })
  await Namespaces.makeBase(base)
}

const forbidden = (why: string) =>
  new LocalUnavailable({
    message: `Sandboxes can't be isolated on this host: ${why}. On Linux, allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1, or on Ubuntu kernel.apparmor_restrict_unprivileged_userns=0); or set CASTELLAN_LOCAL_ISOLATION=none to run commands as plain processes, knowing that they can then read and change what this server's user can.`
  })

/** What must hold inside, each said by a word of its own. */
const selfTest = `
cat /etc/shadow >/dev/null 2>&1 && echo shadow
( echo x > /proc/sys/kernel/core_pattern ) 2>/dev/null && echo sysctl
grep -q '^CapEff:.0*$' /proc/self/status || echo capabilities
grep -q '^NoNewPrivs:.1$' /proc/self/status || echo privileges
touch /usr/castellan-test 2>/dev/null && echo usr
touch /home/user/test || echo home
node -e 0 || echo node
git --version >/dev/null || echo git
echo over
`

/** Seconds that a probe may live, whatever becomes of who began it. */
const probeSeconds = 60

/** Brings up a sandbox, looks whether it holds, and takes it down again. */
const probe = Effect.fnUntraced(function* (layout: Layout, isolation: Isolation, locks: Locks.Locks) {
  const name = SandboxName.make(`probe-${fresh()}`)
  const files = layout.sandbox(name)
  const start = fresh()
  const tried = Effect.gen(function* () {
    yield* attempt("probe", async () => {
      await mkdir(files.root, { mode: 0o711 })
      await writeFile(files.start, `${start}\n`)
      await writeFile(files.deadline, `${Math.ceil(Date.now() / 1000) + probeSeconds}\n`)
    })
    yield* isolation.prepare(files, [])
    const booted = yield* isolation.boot(files, { name, chain: [] }, start)
    const command = [...isolation.enter(files, booted), "sh", "-c", selfTest]
    const { stderr, stdout } = yield* run("probe", command, { cwd: "/", drop: isolation.drop })
    killProcess(booted.init)
    return { said: stdout.trim().split("\n"), stderr }
  })
  const { said, stderr } = yield* tried.pipe(
    Effect.ensuring(Effect.ignore(attempt("probe", () => rm(files.root, { recursive: true, force: true })))),
    // Or another process that opens the directory takes it for what is left of a sandbox.
    locks.sandbox(name),
    Effect.mapError((failure: SandboxUnavailable) => forbidden(whyOf(failure)))
  )
  const wrong = said.filter((word) => word !== "over")
  if (!said.includes("over")) return yield* forbidden(stderr.trim() || "a sandbox's program did not run")
  if (wrong.length > 0) return yield* forbidden(`the isolation does not hold (${wrong.join(", ")})`)
})

const whyOf = ({ cause }: SandboxUnavailable) =>
  (cause instanceof Error ? cause.message : String(cause)).replace(/\s+/g, " ")

export const open = Effect.fnUntraced(function* (options: LocalOptions) {
  const layout = layoutOf(resolve(options.directory))
  const locks = Locks.make(layout.locks)
  const kind = options.isolation ?? "namespaces"
  const drop = kind === "namespaces" && isRoot
  // What sandboxes find they must be able to change, in layers of their own.
  const own = ["chown", "-R", "-P", "-h", `${sandboxUid}:${sandboxUid}`, layout.layer("base")]
  const prepared = Effect.andThen(
    attempt("open", () => prepare(layout)),
    drop ? run("open", own, { cwd: "/", drop: false }) : Effect.void
  )
  yield* attempt("open", async () => {
    await mkdir(layout.root, { recursive: true })
    await mkdir(layout.locks, { recursive: true, mode: 0o700 })
  }).pipe(
    Effect.andThen(locks.directory(prepared)),
    Effect.mapError(
      (failure) => new LocalUnavailable({ message: `${layout.root} can't be used for sandboxes: ${whyOf(failure)}` })
    )
  )
  if (kind === "none") return { layout, locks, isolation: Plain.make(layout) }
  if (platform() !== "linux") return yield* forbidden(`${platform()} has no namespaces`)
  const { isolation } = yield* Namespaces.make(layout.root, options.network ?? "none").pipe(
    Effect.mapError((failure) => forbidden(whyOf(failure)))
  )
  yield* probe(layout, isolation, locks)
  return { layout, locks, isolation }
})
