/** Reads and writes the records of sandboxes, and compares them with the processes that run. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxGone, SandboxNotRunning, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, Effect, Schema } from "effect"
import { mkdir, readdir } from "node:fs/promises"
import type { Isolation, RunningSandbox } from "../isolation/Isolation.ts"
import { attempt, attemptSync } from "../process/attempt.ts"
import { bootId, isAlive, parseStat, type ProcessIdentity } from "../process/processes.ts"
import { overwriteInPlace, readJson, readText, writeJsonAtomically } from "../storage/files.ts"
import type { Layout, SandboxLayout } from "../storage/Layout.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"

const isSandboxName = Schema.is(SandboxName)

/** The reason of a sandbox that was stopped at the end of its lifetime. */
export const lifetimeEnded = "Its lifetime ended"

/** Milliseconds that a server has to stop a sandbox at the end of its lifetime before the sandbox ends by itself. */
const grace = 10_000

/** The first process of the newest start, which may have ended. */
export const readInit = (files: SandboxLayout): ProcessIdentity | undefined => {
  const line = readText(files.init)
  return line === undefined ? undefined : parseStat(line)
}

/** What a sandbox's record should say, given whether its first process is alive: a dead one means that it has stopped. */
const observed = (record: SandboxRecord, isAlive: boolean): Effect.Effect<SandboxRecord> =>
  Effect.map(Clock.currentTimeMillis, (now) => {
    if (record.status !== "running" || isAlive) return record
    const lost = record.bootId === bootId ? "The sandbox's processes ended" : "The host was restarted"
    return { ...record, status: "stopped", reason: now >= record.expiresAt ? lifetimeEnded : lost }
  })

/**
 * `assertDirectory` throws once the data directory is lost. Its sandboxes then count as unavailable, not as gone: a volume
 * may come back.
 */
export const make = (layout: Layout, isolation: Isolation, assertDirectory: () => void) => {
  const writeDeadline = (record: SandboxRecord) =>
    attemptSync("write", () =>
      overwriteInPlace(layout.sandbox(record.name).deadline, `${Math.ceil((record.expiresAt + grace) / 1000)}\n`)
    )

  const save = Effect.fnUntraced(function* (record: SandboxRecord) {
    yield* writeDeadline(record)
    yield* attempt("write", () => writeJsonAtomically(layout.sandbox(record.name).record, record))
    return record
  })

  /** The stored record, and the sandbox's first process if that is alive. */
  const read = (name: SandboxName) =>
    attemptSync("find", () => {
      assertDirectory()
      const files = layout.sandbox(name)
      const record = readJson<SandboxRecord>(files.record)
      const mayRun = record?.status === "running" && record.bootId === bootId && record.form === isolation.version
      const init = mayRun ? readInit(files) : undefined
      return { files, record, init: init !== undefined && isAlive(init) ? init : undefined }
    })

  /** The sandbox as observed. Writes nothing, because the holder of the sandbox's lock may be about to write. */
  const find = Effect.fnUntraced(function* (
    name: SandboxName
  ): Effect.fn.Return<SandboxRecord | undefined, SandboxUnavailable> {
    const { init, record } = yield* read(name)
    return record === undefined ? undefined : yield* observed(record, init !== undefined)
  })

  /** Stores the sandbox as observed. Requires the sandbox's lock. */
  const saveObserved = Effect.fnUntraced(function* (name: SandboxName) {
    const { init, record } = yield* read(name)
    if (record === undefined) return undefined
    const now = yield* observed(record, init !== undefined)
    return now === record ? record : yield* save(now)
  })

  const get = Effect.fnUntraced(function* (name: SandboxName) {
    const record = yield* find(name)
    return record ?? (yield* new SandboxGone({ name }))
  })

  const getRunning = Effect.fnUntraced(function* (
    name: SandboxName
  ): Effect.fn.Return<RunningSandbox, SandboxGone | SandboxNotRunning | SandboxUnavailable> {
    const { files, init, record } = yield* read(name)
    if (record === undefined) return yield* new SandboxGone({ name })
    if (init !== undefined) return { record, files, init }
    return yield* new SandboxNotRunning({ name, reason: (yield* observed(record, false)).reason })
  })

  /** Stores the record of a new sandbox. From now on the sandbox's layers are in use. */
  const create = Effect.fnUntraced(function* (record: SandboxRecord) {
    yield* attemptSync("create", assertDirectory)
    yield* attempt("create", () => mkdir(layout.sandbox(record.name).root, { recursive: true, mode: 0o711 }))
    return yield* save(record)
  })

  const names = attempt("list", async () => (await readdir(layout.sandboxes)).filter(isSandboxName))

  return { find, get, getRunning, names, create, save, saveObserved, writeDeadline }
}

export type SandboxRecords = ReturnType<typeof make>
