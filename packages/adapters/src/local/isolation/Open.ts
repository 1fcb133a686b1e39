/** Opens the provider's directory, and finds out by doing it whether sandboxes can be isolated here. */
import { Effect } from "effect"
import { chmod, mkdir, readlink, rename, rm, symlink } from "node:fs/promises"
import { platform } from "node:os"
import { join, resolve } from "node:path"
import { assertUnchanged } from "../../process/PathIdentity.ts"
import { attempt, attemptNow } from "../process/Host.ts"
import { type Layout, layout as layoutOf } from "../sandbox/Layout.ts"
import * as Locks from "../process/Locks.ts"
import * as Namespaces from "./Namespaces.ts"
import type { LocalOptions } from "../Options.ts"
import * as Plain from "./Plain.ts"
import { forbidden, probe, unusable } from "./Probe.ts"
import { isRoot, sandboxUid } from "../process/Spawn.ts"
import { run } from "../process/Spawner.ts"

/** Puts Node itself where sandboxes without isolation look for it. */
const placeNode = async (target: string): Promise<void> => {
  if ((await readlink(target).catch(() => undefined)) === process.execPath) return
  const next = `${target}.next`
  await rm(next, { force: true })
  await symlink(process.execPath, next)
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
  await Namespaces.makeRoot(layout.runtimeRoot)
}

/** The protections that every host the project supports can give. */
const expected = ["system_call_filter", "own_keyring"]

export const open = Effect.fnUntraced(function* (options: LocalOptions) {
  const layout = layoutOf(resolve(options.directory))
  const locks = Locks.make(layout.locks)
  const kind = options.isolation ?? "namespaces"
  const drop = kind === "namespaces" && isRoot
  // What sandboxes find they must be able to change, in layers of their own.
  const own = ["chown", "-R", "-P", "-h", `${sandboxUid}:${sandboxUid}`, layout.layer("base")]
  const prepared = Effect.andThen(
    attempt("open", () => prepare(layout)),
    drop ? run("open", own, { cwd: "/", user: false }) : Effect.void
  )
  yield* attempt("open", async () => {
    await mkdir(layout.root, { recursive: true })
    await mkdir(layout.locks, { recursive: true, mode: 0o700 })
  }).pipe(
    Effect.andThen(locks.directory(prepared)),
    Effect.mapError((failure) => unusable(layout, failure))
  )
  // The directory itself may stay where only its content was removed.
  const stillThere = yield* Effect.mapError(
    attemptNow("open", () => assertUnchanged(layout.locks)),
    (failure) => unusable(layout, failure)
  )
  if (kind === "none") return { layout, locks, stillThere, isolation: Plain.make(layout) }
  if (platform() !== "linux") return yield* forbidden(`${platform()} has no namespaces`)
  const isolation = yield* Namespaces.make(layout, options.network ?? "none").pipe(
    Effect.mapError((failure) => unusable(layout, failure))
  )
  yield* probe(layout, isolation, locks)
  const missing = isolation.protections.filter(({ holds, name }) => !holds && expected.includes(name))
  if (missing.length > 0) {
    yield* Effect.logWarning("Local sandboxes are protected less than they could be", { missing })
  }
  return { layout, locks, stillThere, isolation }
})

/** The directory, opened; `stillThere` throws once it is not what was opened. */
export type Opened = Effect.Success<ReturnType<typeof open>>
