/** Sandboxes as directories and processes: made, found again after any crash, and ended. */
import { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxGone, SandboxNotRunning, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, DateTime, Effect, Schema } from "effect"
import { existsSync, readFileSync } from "node:fs"
import { mkdir, readdir, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { attempt, bootId, isAlive, killProcess, parseStat, type ProcessMark } from "./Host.ts"
import type { Booted, Isolation } from "./Isolation.ts"
import { fresh, type Layout, readJson, readText, type SandboxLayout, writeWhole } from "./Layout.ts"

/** What is kept of a sandbox. */
export interface Spec {
  readonly name: SandboxName
  /** Epoch milliseconds, as `expiresAt`. */
  readonly createdAt: number
  readonly expiresAt: number
  readonly status: "pending" | "running" | "stopped" | "failed"
  readonly reason: string | null
  /** Its layers, the newest first. */
  readonly chain: ReadonlyArray<string>
  /** The host's start in which it was brought up, and the process that holds its commands' user namespace. */
  readonly bootId: string
  readonly keeper: number
}

/** A sandbox that runs, and what to reach it by. */
export interface Running {
  readonly spec: Spec
  readonly files: SandboxLayout
  readonly booted: Booted
}

const isSandboxName = Schema.is(SandboxName)

export const expired = "Its time was up"

export const toSandbox = (spec: Spec): Sandbox =>
  new Sandbox({
    name: spec.name,
    status: spec.status,
    createdAt: DateTime.makeUnsafe(spec.createdAt),
    expiresAt: DateTime.makeUnsafe(spec.expiresAt),
    reason: spec.reason
  })

const initOf = async (files: SandboxLayout): Promise<ProcessMark | undefined> => {
  const line = await readText(files.init)
  return line === undefined ? undefined : parseStat(line)
}

/** How long to look whether killed processes are gone, in milliseconds, and how often. */
const goneWithin = 10_000
const goneEvery = 4

export const make = (layout: Layout, isolation: Isolation) => {
  const write = (spec: Spec) =>
    Effect.as(
      attempt("write", () => writeWhole(layout.sandbox(spec.name).spec, spec)),
      spec
    )

  /**
   * The sandbox as it was last written down, and as it is seen to be since: a look at it writes nothing, so that it
   * can't undo what somebody who holds the sandbox's lock is about to write.
   */
  const load = Effect.fnUntraced(function* (name: SandboxName): Effect.fn.Return<Spec | undefined, SandboxUnavailable> {
    const files = layout.sandbox(name)
    const spec = yield* attempt("find", () => readJson<Spec>(files.spec))
    if (spec === undefined || spec.status !== "running") return spec
    const init = spec.bootId === bootId ? yield* attempt("find", () => initOf(files)) : undefined
    if (init !== undefined && isAlive(init)) return spec
    const now = yield* Clock.currentTimeMillis
    const reason =
      now >= spec.expiresAt ? expired : spec.bootId === bootId ? "Its processes ended" : "The host was restarted"
    return { ...spec, status: "stopped", reason }
  })

  /** Writes down what is seen of a sandbox. Only for who holds its lock. */
  const settle = Effect.fnUntraced(function* (name: SandboxName) {
    const stored = yield* attempt("find", () => readJson<Spec>(layout.sandbox(name).spec))
    const seen = yield* load(name)
    if (seen !== undefined && stored?.status !== seen.status) yield* write(seen)
    return seen
  })

  const get = Effect.fnUntraced(function* (name: SandboxName) {
    const spec = yield* load(name)
    return spec ?? (yield* new SandboxGone({ name }))
  })

  const running = Effect.fnUntraced(function* (
    name: SandboxName
  ): Effect.fn.Return<Running, SandboxGone | SandboxNotRunning | SandboxUnavailable> {
    const spec = yield* get(name)
    const files = layout.sandbox(name)
    const init = spec.status === "running" ? yield* attempt("find", () => initOf(files)) : undefined
    if (init === undefined) return yield* new SandboxNotRunning({ name, reason: spec.reason })
    return { spec, files, booted: { init, keeper: spec.keeper } }
  })

  /** Whether anything still has the sandbox's files in use: its first process, that one's parent, or who entered. */
  const holders = async (files: SandboxLayout): Promise<ReadonlyArray<ProcessMark>> => {
    const init = await initOf(files)
    if (init === undefined) return []
    const commands = await readdir(files.commands).catch(() => [])
    const wrappers = await Promise.all(
      commands
        .filter((id) => !existsSync(join(files.commands, id, "exit")))
        .map((id) => readText(join(files.commands, id, "begun", "stat")))
    )
    const marks = wrappers.flatMap((line) => (line === undefined ? [] : (parseStat(line) ?? [])))
    return [init, ...marks]
  }

  /** Ends whatever lives in the sandbox and waits until it is gone: one directory is never mounted twice. */
  const end = Effect.fnUntraced(function* (files: SandboxLayout, name: SandboxName) {
    const all = yield* attempt("stop", () => holders(files))
    const [init] = all
    if (init === undefined) return
    const parent = isAlive(init) && init.parent > 1 ? [{ ...init, pid: init.parent }] : []
    killProcess(init)
    yield* isolation.sweep(name)
    yield* attempt("stop", async (signal) => {
      const until = Date.now() + goneWithin
      const gone = () => !all.some(isAlive) && !parent.some(({ pid }) => isUnshare(pid))
      while (!gone() && Date.now() < until && !signal.aborted) {
        await new Promise((resolve) => setTimeout(resolve, goneEvery))
      }
    })
  })

  /** Says first why it ends, then ends it: who looks in between sees no end that nobody can explain. */
  const stop = Effect.fnUntraced(function* (spec: Spec, status: "stopped" | "failed", reason: string | null) {
    const runs = spec.status === "running" || spec.status === "pending"
    const stopped = runs ? yield* write({ ...spec, status, reason }) : spec
    yield* end(layout.sandbox(spec.name), spec.name)
    return stopped
  })

  /** Brings up the sandbox of a spec; what an attempt that was cut off may have left alive is ended first. */
  const boot = Effect.fnUntraced(function* (spec: Spec) {
    const files = layout.sandbox(spec.name)
    yield* end(files, spec.name)
    yield* isolation.prepare(files, spec.chain)
    const { keeper } = yield* isolation.boot(files, spec.name, spec.chain)
    return yield* write({ ...spec, status: "running", reason: null, bootId, keeper })
  })

  const create = Effect.fnUntraced(function* (spec: Spec) {
    const files = layout.sandbox(spec.name)
    yield* attempt("create", async () => {
      await mkdir(files.root, { recursive: true, mode: 0o711 })
      await writeWhole(files.spec, spec)
    })
    return yield* boot(spec).pipe(
      Effect.tapError(() => Effect.ignore(write({ ...spec, status: "failed", reason: "It did not come up" })))
    )
  })

  const remove = Effect.fnUntraced(function* (name: SandboxName) {
    const files = layout.sandbox(name)
    yield* end(files, name)
    const away = join(layout.trash, fresh())
    yield* attempt("remove", async () => {
      try {
        await rename(files.root, away)
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code !== "ENOENT") throw cause
      }
    })
    yield* Effect.forkDetach(Effect.ignore(attempt("remove", () => rm(away, { recursive: true, force: true }))))
  })

  const names = attempt("list", async () => (await readdir(layout.sandboxes)).filter(isSandboxName))

  return { load, settle, get, running, write, end, stop, boot, create, remove, names }
}

export type Machines = ReturnType<typeof make>

/** Whether the process of that number is still the one that made a sandbox's namespaces. */
const isUnshare = (pid: number): boolean => {
  try {
    return readComm(pid) === "unshare"
  } catch {
    return false
  }
}

const readComm = (pid: number): string => readFileSync(`/proc/${pid}/comm`, "utf8").trim()
