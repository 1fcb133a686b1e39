/** Starts, stops and removes sandboxes; recovers from a crash at any step. */
import type { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Effect } from "effect"
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { readdir } from "node:fs/promises"
import { join } from "node:path"
import type { Isolation } from "../isolation/Isolation.ts"
import { attempt, attemptSync } from "../process/attempt.ts"
import { bootId, findRunning, isAlive, killProcess, parseStat, type ProcessIdentity } from "../process/processes.ts"
import { randomId, readText } from "../storage/files.ts"
import type { Layout, SandboxLayout } from "../storage/Layout.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"
import { readInit, type SandboxRecords } from "./SandboxRecords.ts"
import type { Trash } from "./Trash.ts"

/** How often a start is repeated when a late start of a dead server was in its way. */
const bootRetries = 3

/** Milliseconds to wait for killed processes to end, and between two checks. */
const endTimeout = 10_000
const checkEvery = 4

/** Milliseconds until remaining processes are killed again: a command that was about to start is marked by then. */
const killAgainAfter = 100

/** The processes that may use the sandbox's files: its first process, and the wrappers of its commands. */
const readHolders = async (files: SandboxLayout): Promise<ReadonlyArray<ProcessIdentity>> => {
  const init = readInit(files)
  if (init === undefined) return []
  const commands = await readdir(files.commands).catch(() => [])
  const wrappers = commands
    .filter((id) => !existsSync(join(files.commands, id, "exit")))
    .map((id) => readText(join(files.commands, id, "begun", "stat")))
  return [init, ...wrappers.flatMap((line) => (line === undefined ? [] : (parseStat(line) ?? [])))]
}

/** `closeConnections` ends what reaches into a sandbox from outside, before the sandbox's processes are killed. */
export const make = (
  layout: Layout,
  isolation: Isolation,
  records: SandboxRecords,
  trash: Trash,
  closeConnections: (name: SandboxName, init: ProcessIdentity) => Effect.Effect<void>
) => {
  /**
   * Kills every process of the sandbox and waits for their end, because a directory must never be mounted twice. A late
   * start of a dead server finds that its token no longer counts. Returns the token that does.
   */
  const endProcesses = Effect.fnUntraced(function* (files: SandboxLayout, name: SandboxName) {
    const token = randomId()
    yield* attemptSync("stop", () => {
      if (existsSync(files.root)) writeFileSync(files.start, `${token}\n`)
    })
    const holders = yield* attempt("stop", () => readHolders(files))
    const [init] = holders
    if (init === undefined) return token
    yield* closeConnections(name, init)
    const parent = isAlive(init) ? findRunning(init.parent, "unshare") : undefined
    const ending = parent === undefined ? holders : [...holders, parent]
    killProcess(init)
    const haveEnded = () => !ending.some(isAlive)
    const timeout = performance.now() + endTimeout
    do {
      yield* isolation.killRemaining(name)
      const killAgain = Math.min(timeout, performance.now() + killAgainAfter)
      yield* attempt("stop", async (signal) => {
        while (!haveEnded() && performance.now() < killAgain && !signal.aborted) {
          await new Promise((resolve) => setTimeout(resolve, checkEvery))
        }
      })
    } while (!haveEnded() && performance.now() < timeout)
    return token
  })

  /** Stores the reason before it kills the processes, so that no reader sees a sandbox that ended without a reason. */
  const stop = Effect.fnUntraced(function* (
    record: SandboxRecord,
    status: "stopped" | "failed",
    reason: string | null
  ) {
    const mayRun = record.status === "running" || record.status === "pending"
    const stopped = mayRun ? yield* records.save({ ...record, status, reason }) : record
    yield* endProcesses(layout.sandbox(record.name), record.name)
    return stopped
  })

  const startProcesses = Effect.fnUntraced(function* (files: SandboxLayout, record: SandboxRecord) {
    const token = yield* endProcesses(files, record.name)
    yield* attemptSync("boot", () => rmSync(files.init, { force: true }))
    return yield* isolation.boot(files, record, token)
  })

  /** Starts the sandbox of a record and stores that it runs. */
  const boot = Effect.fnUntraced(function* (record: SandboxRecord) {
    const files = layout.sandbox(record.name)
    yield* isolation.prepare(files, record)
    yield* records.writeDeadline(record)
    yield* Effect.retry(startProcesses(files, record), { times: bootRetries, while: ({ retryable }) => retryable })
    const form = isolation.version === undefined ? {} : { form: isolation.version }
    return yield* records.save({ ...record, ...form, status: "running", reason: null, bootId })
  })

  /** Starts a new sandbox. If that fails, its record says so. */
  const bootNew = (record: SandboxRecord) =>
    boot(record).pipe(
      Effect.tapError(() =>
        Effect.ignore(records.save({ ...record, status: "failed", reason: "The sandbox did not start" }))
      )
    )

  const remove = Effect.fnUntraced(function* (name: SandboxName) {
    const files = layout.sandbox(name)
    yield* endProcesses(files, name)
    yield* trash.discard(files.root)
  })

  return { endProcesses, stop, boot, bootNew, remove }
}

export type SandboxProcesses = ReturnType<typeof make>
