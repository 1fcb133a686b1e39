/** Kills sandboxes whose directory was removed while no server could stop them. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Effect, Schema } from "effect"
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs"
import { deadlineDescriptor } from "../isolation/launchScript.ts"
import { findRunning, killProcess, parseStat } from "../process/processes.ts"
import { readPrefix } from "../storage/files.ts"
import type { Layout } from "../storage/Layout.ts"

/** Bytes of a process's arguments that are read. A process may claim to have terabytes of them. */
const cmdlinePrefix = 4096

const isSandboxName = Schema.is(SandboxName)

/** The result of inspecting a process; undefined if it has ended or this user may not inspect it. */
const inspect = <A>(read: () => A): A | undefined => {
  try {
    return read()
  } catch {
    return undefined
  }
}

/**
 * The first process of an orphaned sandbox in namespaces, if the given process is the sandbox's timekeeper, as its arguments
 * say, and the deadline file that it keeps open is no longer in any directory. The file is inspected by its descriptor, so no
 * path is followed.
 */
const findOrphan = (pid: string): number | undefined => {
  const [, , , role, name] = (readPrefix(`/proc/${pid}/cmdline`, cmdlinePrefix) ?? "").split("\0")
  if (role !== "keeper" || !isSandboxName(name)) return undefined
  const deadline = `/proc/${pid}/fd/${deadlineDescriptor}`
  if (!readlinkSync(deadline).endsWith(" (deleted)") || statSync(deadline).nlink !== 0) return undefined
  return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"))?.parent
}

const deletedSuffix = "/upper (deleted)"

/** The name of an orphaned sandbox without isolation, if the given process represents one. */
const findPlainOrphan = (layout: Layout, pid: string): SandboxName | undefined => {
  const directory = readlinkSync(`/proc/${pid}/cwd`)
  if (!directory.startsWith(`${layout.sandboxes}/`) || !directory.endsWith(deletedSuffix)) return undefined
  const name = directory.slice(layout.sandboxes.length + 1, -deletedSuffix.length)
  return isSandboxName(name) && findRunning(Number(pid), "sleep") !== undefined ? name : undefined
}

const kill = (pid: number, program: string) => {
  const identity = findRunning(pid, program)
  if (identity !== undefined) killProcess(identity)
}

/** `killRemaining` kills the processes that are marked with a sandbox's name. */
export const killOrphans = <E>(layout: Layout, killRemaining: (name: SandboxName) => Effect.Effect<void, E>) =>
  Effect.gen(function* () {
    let killed = 0
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      const orphan = inspect(() => findOrphan(pid))
      if (orphan !== undefined) {
        kill(orphan, "unshare")
        killed++
      }
      const name = inspect(() => findPlainOrphan(layout, pid))
      if (name !== undefined) {
        kill(Number(pid), "sleep")
        yield* killRemaining(name)
        killed++
      }
    }
    if (killed > 0) yield* Effect.logWarning("Killed sandboxes whose data directory was removed", { sandboxes: killed })
  })
