/** Opens the provider's data directory and tests whether sandboxes can be isolated on this host. */
import { Effect } from "effect"
import { chmod, mkdir, readlink, rename, rm, symlink } from "node:fs/promises"
import { platform } from "node:os"
import { resolve } from "node:path"
import { assertUnchanged } from "../process/PathIdentity.ts"
import * as Authority from "./isolation/Authority.ts"
import type { Isolation } from "./isolation/Isolation.ts"
import * as Namespaces from "./isolation/Namespaces.ts"
import * as NoIsolation from "./isolation/NoIsolation.ts"
import { directoryUnusable, isolationUnsupported, probe } from "./isolation/Probe.ts"
import { makeBase, makeRoot } from "./isolation/rootFiles.ts"
import type { LocalOptions } from "./Options.ts"
import { attempt, attemptSync } from "./process/attempt.ts"
import * as Locks from "./process/Locks.ts"
import { isRoot, sharedSandboxUid } from "./process/Spawn.ts"
import { run } from "./process/Spawner.ts"
import { type Layout, makeLayout } from "./storage/Layout.ts"

/** Links Node for sandboxes without isolation. */
const linkNode = async (target: string): Promise<void> => {
  if ((await readlink(target).catch(() => undefined)) === process.execPath) return
  const next = `${target}.next`
  await rm(next, { force: true })
  await symlink(process.execPath, next)
  // Atomic, because sandboxes of other processes may start at the same time.
  await rename(next, target)
}

const prepareDirectory = async (layout: Layout): Promise<void> => {
  // The users of sandboxes pass through these directories but can't list them.
  for (const directory of [layout.root, layout.runtime, layout.sandboxes, layout.layers, layout.flattened]) {
    await mkdir(directory, { recursive: true })
    await chmod(directory, 0o711)
  }
  for (const directory of [layout.snapshots, layout.trash]) await mkdir(directory, { recursive: true, mode: 0o700 })
  await linkNode(layout.node)
  const base = layout.layer("base")
  await mkdir(base, { recursive: true, mode: 0o755 })
  await makeBase(base)
  await makeRoot(layout.runtimeRoot)
  await Authority.place(layout)
}

/** The protections that every supported host can give. */
const expectedProtections = ["system_call_filter", "own_keyring"]

export interface OpenedProvider {
  readonly layout: Layout
  readonly locks: Locks.Locks
  readonly isolation: Isolation
  /** Throws once the data directory was removed or replaced. */
  readonly assertDirectory: () => void
}

/** Fails with `LocalUnavailable` if the directory can't be used or sandboxes can't be isolated. */
export const openProvider = Effect.fnUntraced(function* (options: LocalOptions) {
  const layout = makeLayout(resolve(options.directory))
  const locks = Locks.make(layout.locks)
  const kind = options.isolation ?? "namespaces"
  // Sandboxes may change the files of the base layer, each in its own upper directory.
  const chown = ["chown", "-R", "-P", "-h", `${sharedSandboxUid}:${sharedSandboxUid}`, layout.layer("base")]
  const prepare = Effect.andThen(
    attempt("open", () => prepareDirectory(layout)),
    kind === "namespaces" && isRoot ? run("open", chown, { cwd: "/", user: false }) : Effect.void
  )
  yield* attempt("open", async () => {
    await mkdir(layout.root, { recursive: true })
    await mkdir(layout.locks, { recursive: true, mode: 0o700 })
  }).pipe(
    Effect.andThen(locks.directory(prepare)),
    Effect.mapError((failure) => directoryUnusable(layout, failure))
  )
  // A subdirectory, because the data directory itself may stay when its content is removed.
  const assertDirectory = yield* Effect.mapError(
    attemptSync("open", () => assertUnchanged(layout.locks)),
    (failure) => directoryUnusable(layout, failure)
  )
  const opened = { layout, locks, assertDirectory }
  if (kind === "none") return { ...opened, isolation: NoIsolation.make(layout) } satisfies OpenedProvider
  if (platform() !== "linux") return yield* isolationUnsupported(`${platform()} has no namespaces`)
  const isolation = yield* Namespaces.make(layout).pipe(
    Effect.mapError((failure) => directoryUnusable(layout, failure))
  )
  yield* probe(layout, isolation, locks)
  const missing = isolation.protections.filter(({ holds, name }) => !holds && expectedProtections.includes(name))
  if (missing.length > 0) {
    yield* Effect.logWarning("Local sandboxes lack protections that this host could give", { missing })
  }
  return { ...opened, isolation } satisfies OpenedProvider
})
