/** Sandboxes as directories and processes: made, found again after any crash, and ended. */
import type { Port } from "@castellan/domain/sandbox/Port.ts"
import { Sandbox } from "@castellan/domain/sandbox/Sandbox.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxGone, SandboxNotRunning, type SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Clock, DateTime, Effect, Schema } from "effect"
import { existsSync, rmSync, writeFileSync } from "node:fs"
import { mkdir, readdir } from "node:fs/promises"
import { join } from "node:path"
import {
  attempt,
  attemptNow,
  bootId,
  isAlive,
  killProcess,
  livingAs,
  parseStat,
  type ProcessMark
} from "../process/Host.ts"
import type { Isolation } from "../isolation/Isolation.ts"
import { fresh, type Layout, readJson, readText, type SandboxLayout, overwrite, writeWhole } from "./Layout.ts"
import type { Trash } from "./Trash.ts"

/** What is kept of a sandbox. */
export interface Spec {
  readonly name: SandboxName
  /** Epoch milliseconds, as `expiresAt`. */
  readonly createdAt: number
  readonly expiresAt: number
  readonly status: "pending" | "running" | "stopped" | "failed"
  /** Which run of it this is. Not there before runs were told apart. */
  readonly incarnation?: string
  readonly reason: string | null
  /** Its layers, the newest first. */
  readonly chain: ReadonlyArray<string>
  /** As `SandboxSpec` has them. Not there before sandboxes had them. */
  readonly ports?: ReadonlyArray<Port>
  readonly registry?: boolean
  /** The user of the host that it runs as; not there for sandboxes that have none of their own. */
  readonly user?: number
  /** The host's start in which it was brought up, and the form of isolation in which it was. */
  readonly bootId: string
  readonly form?: number
}

/** A sandbox that runs, and what to reach it by. */
export interface Running {
  readonly spec: Spec
  readonly files: SandboxLayout
  readonly booted: ProcessMark
}

const isSandboxName = Schema.is(SandboxName)

export const expired = "Its time was up"

/** Which run of it a sandbox is, or was last. */
export const incarnationOf = (spec: Spec): string => spec.incarnation ?? "first"

export const toSandbox = (spec: Spec): Sandbox =>
  new Sandbox({
    name: spec.name,
    status: spec.status,
    createdAt: DateTime.makeUnsafe(spec.createdAt),
    incarnation: incarnationOf(spec),
    expiresAt: DateTime.makeUnsafe(spec.expiresAt),
    reason: spec.reason
  })

const initOf = (files: SandboxLayout): ProcessMark | undefined => {
  const line = readText(files.init)
  return line === undefined ? undefined : parseStat(line)
}

/** Milliseconds that a server has to end a sandbox whose time is up, before the sandbox does it by itself. */
const grace = 10_000

/** How often another start is made where a late one of a process that is gone was in the way. */
const starts = 3

/** How long to look whether killed processes are gone, in milliseconds, and how often. */
const goneWithin = 10_000
const goneEvery = 4

/** Milliseconds after which what is left is swept again: a command that was about to start is marked by then. */
const sweepEvery = 100

/**
 * `letGo` is done before a sandbox's processes are ended: it ends what reaches into that from outside. `stillThere` throws
 * once the directory is lost, so that its sandboxes do not count as gone: it may come back, as a volume does.
 */
export const make = (
  layout: Layout,
  isolation: Isolation,
  trash: Trash,
  letGo: (name: SandboxName, init: ProcessMark) => Effect.Effect<void>,
  stillThere: () => void
) => {
  const writeDeadline = (spec: Spec) =>
    attemptNow("write", () =>
      overwrite(layout.sandbox(spec.name).deadline, `${Math.ceil((spec.expiresAt + grace) / 1000)}\n`)
    )

  const write = Effect.fnUntraced(function* (spec: Spec) {
    yield* writeDeadline(spec)
    yield* attempt("write", () => writeWhole(layout.sandbox(spec.name).spec, spec))
    return spec
  })

  /** What is written down of a sandbox, and its first process if that lives. */
  const look = (name: SandboxName) =>
    attemptNow("find", () => {
      stillThere()
      const files = layout.sandbox(name)
      const spec = readJson<Spec>(files.spec)
      const isOurs = spec?.status === "running" && spec.bootId === bootId && spec.form === isolation.form
      const init = isOurs ? initOf(files) : undefined
      return { files, spec, init: init !== undefined && isAlive(init) ? init : undefined }
    })

  /** What is written down, as it is seen to be by now: a sandbox whose first process is gone has stopped. */
  const seen = (spec: Spec, isAlive: boolean) =>
    Effect.map(Clock.currentTimeMillis, (now): Spec => {
      if (spec.status !== "running" || isAlive) return spec
      const lost = spec.bootId === bootId ? "Its processes ended" : "The host was restarted"
      return { ...spec, status: "stopped", reason: now >= spec.expiresAt ? expired : lost }
    })

  /**
   * The sandbox as it is seen. A look at it writes nothing, so that it can't undo what somebody who holds the sandbox's
   * lock is about to write.
   */
  const load = Effect.fnUntraced(function* (name: SandboxName): Effect.fn.Return<Spec | undefined, SandboxUnavailable> {
    const { init, spec } = yield* look(name)
    return spec === undefined ? undefined : yield* seen(spec, init !== undefined)
  })

  /** Writes down what is seen of a sandbox. Only for who holds its lock. */
  const settle = Effect.fnUntraced(function* (name: SandboxName) {
    const { init, spec } = yield* look(name)
    if (spec === undefined) return undefined
    const now = yield* seen(spec, init !== undefined)
    return now === spec ? spec : yield* write(now)
  })

  const get = Effect.fnUntraced(function* (name: SandboxName) {
    const spec = yield* load(name)
    return spec ?? (yield* new SandboxGone({ name }))
  })

  const running = Effect.fnUntraced(function* (
    name: SandboxName
  ): Effect.fn.Return<Running, SandboxGone | SandboxNotRunning | SandboxUnavailable> {
    const { files, init, spec } = yield* look(name)
    if (spec === undefined) return yield* new SandboxGone({ name })
    if (init !== undefined) return { spec, files, booted: init }
    return yield* new SandboxNotRunning({ name, reason: (yield* seen(spec, false)).reason })
  })

  /** Whether anything still has the sandbox's files in use: its first process, that one's parent, or who entered. */
  const holders = async (files: SandboxLayout): Promise<ReadonlyArray<ProcessMark>> => {
    const init = initOf(files)
    if (init === undefined) return []
    const commands = await readdir(files.commands).catch(() => [])
    const wrappers = commands
      .filter((id) => !existsSync(join(files.commands, id, "exit")))
      .map((id) => readText(join(files.commands, id, "begun", "stat")))
    const marks = wrappers.flatMap((line) => (line === undefined ? [] : (parseStat(line) ?? [])))
    return [init, ...marks]
  }

  /**
   * Ends whatever lives in the sandbox and waits until it is gone: one directory is never mounted twice. What a process
   * that is gone had begun to start, and comes late, finds that it no longer counts. Gives the start that would.
   */
  const end = Effect.fnUntraced(function* (files: SandboxLayout, name: SandboxName) {
    const start = fresh()
    yield* attemptNow("stop", () => {
      if (existsSync(files.root)) writeFileSync(files.start, `${start}\n`)
    })
    const all = yield* attempt("stop", () => holders(files))
    const [init] = all
    if (init === undefined) return start
    yield* letGo(name, init)
    const parent = isAlive(init) ? livingAs(init.parent, "unshare") : undefined
    const ending = parent === undefined ? all : [...all, parent]
    killProcess(init)
    const gone = () => !ending.some(isAlive)
    const until = performance.now() + goneWithin
    do {
      yield* isolation.sweep(name)
      const sweepAgain = Math.min(until, performance.now() + sweepEvery)
      yield* attempt("stop", async (signal) => {
        while (!gone() && performance.now() < sweepAgain && !signal.aborted) {
          await new Promise((resolve) => setTimeout(resolve, goneEvery))
        }
      })
    } while (!gone() && performance.now() < until)
    return start
  })

  /** Says first why it ends, then ends it: who looks in between sees no end that nobody can explain. */
  const stop = Effect.fnUntraced(function* (spec: Spec, status: "stopped" | "failed", reason: string | null) {
    const runs = spec.status === "running" || spec.status === "pending"
    const stopped = runs ? yield* write({ ...spec, status, reason }) : spec
    yield* end(layout.sandbox(spec.name), spec.name)
    return stopped
  })

  const started = Effect.fnUntraced(function* (files: SandboxLayout, spec: Spec) {
    const start = yield* end(files, spec.name)
    yield* attemptNow("boot", () => rmSync(files.init, { force: true }))
    return yield* isolation.boot(files, spec, start)
  })

  /** Brings up the sandbox of a spec. */
  const boot = Effect.fnUntraced(function* (spec: Spec) {
    const files = layout.sandbox(spec.name)
    yield* isolation.prepare(files, spec)
    yield* writeDeadline(spec)
    yield* Effect.retry(started(files, spec), { times: starts, while: ({ retryable }) => retryable })
    const form = isolation.form === undefined ? {} : { form: isolation.form }
    return yield* write({ ...spec, ...form, status: "running", reason: null, bootId })
  })

  /** Writes down a sandbox to be: from here on its layers are in use. */
  const begin = Effect.fnUntraced(function* (spec: Spec) {
    yield* attemptNow("create", stillThere)
    yield* attempt("create", () => mkdir(layout.sandbox(spec.name).root, { recursive: true, mode: 0o711 }))
    return yield* write(spec)
  })

  const create = (begun: Spec) =>
    boot(begun).pipe(
      Effect.tapError(() => Effect.ignore(write({ ...begun, status: "failed", reason: "It did not come up" })))
    )

  const remove = Effect.fnUntraced(function* (name: SandboxName) {
    const files = layout.sandbox(name)
    yield* end(files, name)
    yield* trash.discard(files.root)
  })

  const names = attempt("list", async () => (await readdir(layout.sandboxes)).filter(isSandboxName))

  return { load, settle, get, running, write, end, stop, boot, begin, create, remove, names }
}

export type Machines = ReturnType<typeof make>
