/** Ends sandboxes whose directory was removed while no server, or one that could do nothing, was there to end them. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Effect, Schema } from "effect"
import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs"
import { killProcess, livingAs, parseStat, type ProcessMark } from "../process/Host.ts"
import { type Layout, readStart } from "./Layout.ts"
import { deadlineAs } from "../isolation/scripts.ts"

/** Bytes of a process's arguments that are looked at. A process may claim to have terabytes of them. */
const cmdlineRead = 4096

const isSandboxName = Schema.is(SandboxName)

/** What a look at a process gives; undefined for one that has ended, or that this user may not look at. */
const looked = <A>(look: () => A): A | undefined => {
  try {
    return look()
  } catch {
    return undefined
  }
}

/**
 * The first process of a sandbox in namespaces, if the process given is that sandbox's timekeeper, as its arguments say, and
 * the deadline that it keeps open is no longer in any directory. The file is looked at by the descriptor, so no path is
 * followed.
 */
const orphanOf = (pid: string): number | undefined => {
  const [, , , role, name] = (readStart(`/proc/${pid}/cmdline`, cmdlineRead) ?? "").split("\0")
  if (role !== "keeper" || !isSandboxName(name)) return undefined
  const deadline = `/proc/${pid}/fd/${deadlineAs}`
  if (!readlinkSync(deadline).endsWith(" (deleted)") || statSync(deadline).nlink !== 0) return undefined
  return parseStat(readFileSync(`/proc/${pid}/stat`, "utf8"))?.parent
}

const removed = "/upper (deleted)"

/** The sandbox without isolation that a process stands for whose directory, in this one, was removed. */
const plainOrphan = (layout: Layout, pid: string): SandboxName | undefined => {
  const directory = readlinkSync(`/proc/${pid}/cwd`)
  if (!directory.startsWith(`${layout.sandboxes}/`) || !directory.endsWith(removed)) return undefined
  const name = directory.slice(layout.sandboxes.length + 1, -removed.length)
  return isSandboxName(name) && livingAs(Number(pid), "sleep") !== undefined ? name : undefined
}

/** Ends them; `sweep` ends what carries the name of one. */
export const endOrphans = <E>(layout: Layout, sweep: (name: SandboxName) => Effect.Effect<void, E>) =>
  Effect.gen(function* () {
    const ended: Array<string> = []
    const kill = (pid: number, program: string) => {
      const mark: ProcessMark | undefined = livingAs(pid, program)
      if (mark !== undefined) killProcess(mark)
    }
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      const orphan = looked(() => orphanOf(pid))
      if (orphan !== undefined) {
        kill(orphan, "unshare")
        ended.push(pid)
      }
      const name = looked(() => plainOrphan(layout, pid))
      if (name !== undefined) {
        kill(Number(pid), "sleep")
        yield* sweep(name)
        ended.push(pid)
      }
    }
    if (ended.length > 0) {
      yield* Effect.logWarning("Ended sandboxes whose data directory was removed", { processes: ended.length })
    }
  })
