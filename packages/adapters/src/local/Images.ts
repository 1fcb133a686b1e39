/** Images as chains of read-only layers: taking one and booting from one cost the same whatever lies in them. */
import { Snapshot, SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { SandboxUnavailable, SnapshotGone } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { DateTime, Effect } from "effect"
import { existsSync, statSync } from "node:fs"
import { chown, mkdir, readdir, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { attempt, attemptNow } from "./Host.ts"
import type { Isolation } from "./Isolation.ts"
import { emptyDirectory, fresh, type Layout, readJson, syncDirectory, writeWhole } from "./Layout.ts"
import type { Locks } from "./Locks.ts"
import type { Spec } from "./Machines.ts"
import { flatten } from "./scripts.ts"
import { sandboxUid } from "./Spawn.ts"
import { run } from "./Spawner.ts"

interface StoredSnapshot {
  readonly id: SnapshotId
  readonly source: Spec["name"]
  readonly createdAt: number
  readonly chain: ReadonlyArray<string>
}

/** Layers of a chain; beyond that one layer is made of them all. A mount's options must fit in 4096 bytes. */
const longestChain = 60

const toSnapshot = (stored: StoredSnapshot): Snapshot =>
  new Snapshot({ id: stored.id, source: stored.source, createdAt: DateTime.makeUnsafe(stored.createdAt) })

export const make = (layout: Layout, isolation: Isolation, locks: Locks) => {
  const chainOf = Effect.fnUntraced(function* (id: SnapshotId) {
    const stored = yield* attemptNow("snapshot", () => readJson<StoredSnapshot>(layout.snapshot(id)))
    return stored === undefined ? yield* new SnapshotGone({ id }) : stored.chain
  })

  const flat = Effect.fnUntraced(function* (chain: ReadonlyArray<string>) {
    if (chain.length < longestChain) return chain
    const id = fresh()
    const layers = [...chain, "base"].map((layer) => `layers/${layer}`).join(":")
    const namespaces = ["unshare", "--user", "--map-root-user", "--mount"]
    const whole = join(layout.root, "flat", id)
    yield* attempt("flatten", async () => {
      await mkdir(whole, { recursive: true })
      if (isolation.drop) await chown(whole, sandboxUid, sandboxUid)
    })
    const { code, stderr } = yield* run("flatten", [...namespaces, "sh", "-c", flatten, "flatten", id, layers], {
      cwd: layout.root,
      drop: isolation.drop
    })
    if (code !== 0) {
      return yield* new SandboxUnavailable({ operation: "flatten", retryable: false, cause: stderr })
    }
    yield* attempt("flatten", () => rename(whole, layout.layer(id)))
    return [id]
  })

  /**
   * Makes the stopped sandbox's own files a layer. What is to be done is written first, so that whoever comes after a
   * crash can do the rest: move the files, lengthen the chain, write the snapshot.
   */
  const finished = Effect.fnUntraced(function* (spec: Spec) {
    const files = layout.sandbox(spec.name)
    const moving = yield* attemptNow("snapshot", () => readJson<StoredSnapshot>(files.moving))
    if (moving === undefined) return spec
    const [layer] = moving.chain
    const next: Spec = { ...spec, chain: moving.chain }
    yield* attempt("snapshot", async () => {
      if (!existsSync(layout.layer(layer!))) await rename(files.upper, layout.layer(layer!))
      await rm(files.work, { recursive: true, force: true })
      await syncDirectory(layout.layer(layer!))
      await writeWhole(files.spec, next, { durable: true })
      await writeWhole(layout.snapshot(moving.id), moving, { durable: true })
      await syncDirectory(layout.snapshot(moving.id))
    })
    yield* isolation.prepare(files, next.chain)
    yield* attempt("snapshot", () => rm(files.moving))
    return next
  })

  /** Finishes a snapshot of the stopped sandbox that was cut off, and gives what the sandbox is then. */
  const finish = (spec: Spec) =>
    Effect.suspend(() =>
      existsSync(layout.sandbox(spec.name).moving) ? locks.layers(finished(spec)) : Effect.succeed(spec)
    )

  /** Whether something that the stopped sandbox stands on is not there any more: its own files, or a layer below them. */
  const isLost = (spec: Spec) =>
    attemptNow("resume", () => {
      const files = layout.sandbox(spec.name)
      const moved = readJson<StoredSnapshot>(files.moving)?.chain.slice(0, 1) ?? []
      const below = isolation.kind === "none" ? [] : spec.chain
      const isOwnLost = [files.upper, ...moved.map(layout.layer)].every(isMissing)
      return isOwnLost || below.map(layout.layer).some(isMissing)
    })

  const take = Effect.fnUntraced(function* (stopped: Spec, now: number) {
    const files = layout.sandbox(stopped.name)
    const spec = yield* finished(stopped)
    const chain = isolation.kind === "none" ? [] : yield* flat(spec.chain)
    const moving: StoredSnapshot = {
      id: SnapshotId.make(`snap_${fresh()}${fresh()}`),
      source: spec.name,
      createdAt: now,
      chain: [fresh(), ...chain]
    }
    yield* attempt("snapshot", () => writeWhole(files.moving, moving, { durable: true }))
    yield* finished(spec)
    return toSnapshot(moving)
  }, locks.layers)

  const listed = async (directory: string, files: (names: ReadonlyArray<string>) => ReadonlyArray<string>) => {
    const all = files(await readdir(directory)).map((file) => readJson<Pick<Spec, "chain">>(join(directory, file)))
    return all.flatMap((one) => one?.chain ?? [])
  }

  const unused = attempt("collect", async () => {
    const used = new Set([
      "base",
      ...(await listed(layout.sandboxes, (names) => names.map((name) => join(name, "spec.json")))),
      ...(await listed(layout.sandboxes, (names) => names.map((name) => join(name, "moving.json")))),
      ...(await listed(layout.snapshots, (names) => names.filter(isWhole)))
    ])
    const away: Array<string> = []
    for (const id of await readdir(layout.layers)) {
      if (used.has(id)) continue
      const target = join(layout.trash, fresh())
      await rename(layout.layer(id), target)
      away.push(target)
    }
    return away
  })

  /** Removes the layers that no sandbox and no snapshot stands on. What can't be removed now is when the trash is emptied. */
  const collect = Effect.flatMap(locks.layers(unused), (away) =>
    Effect.promise(() => Promise.allSettled(away.map((path) => rm(path, { recursive: true, force: true }))))
  )

  /** Removes what those who were killed had begun to write, and nobody goes on with. */
  const clear = attempt("clean", async () => {
    await emptyDirectory(join(layout.root, "flat"))
    const names = await readdir(layout.snapshots)
    for (const name of names) if (!isWhole(name)) await rm(join(layout.snapshots, name), { force: true })
  }).pipe(locks.layers)

  /** The snapshots that were made of a sandbox. */
  const of = (source: Spec["name"]) =>
    attempt("snapshots", async () => {
      const names = await readdir(layout.snapshots)
      const whole = names.filter(isWhole)
      const all = whole.flatMap((name) => readJson<StoredSnapshot>(join(layout.snapshots, name)) ?? [])
      return all.flatMap((stored) => (stored.source === source ? [toSnapshot(stored)] : []))
    })

  const forget = (id: SnapshotId) => attempt("snapshot", () => rm(layout.snapshot(id), { force: true }))

  return { chainOf, take, finish, isLost, of, forget, collect, clear }
}

/** Whether a file is a snapshot's, and not one that is being written. */
const isWhole = (name: string): boolean => name.endsWith(".json")

/** Nothing is there. What can't be looked at may be there. */
const isMissing = (path: string): boolean => {
  try {
    statSync(path)
    return false
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "ENOENT"
  }
}
