/** Takes snapshots as chains of read-only layers: taking one, and booting from one, costs the same for any content. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Duration, Effect, Schema } from "effect"
import { existsSync, statSync } from "node:fs"
import { chown, mkdir, readdir, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import type { Isolation } from "../isolation/Isolation.ts"
import { attempt, attemptSync } from "../process/attempt.ts"
import type { Locks } from "../process/Locks.ts"
import { run } from "../process/Spawner.ts"
import { listNames, randomId, readJson, syncParentDirectory, writeJsonAtomically } from "../storage/files.ts"
import type { Layout } from "../storage/Layout.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"
import { flatten as flattenScript } from "./scripts.ts"
import { isSnapshotFile, type StoredSnapshot, toSnapshot } from "./StoredSnapshot.ts"
import type { Trash } from "./Trash.ts"

/** Layers of a chain. A longer one is flattened into one layer, because a mount's options must fit into 4096 bytes. */
const maxChain = 60

/** The time limit of flattening. */
const flattenTimeout = Duration.minutes(30)

/** A command prefix that kills the copying program when the server ends. */
const endsWithParent = ["setpriv", "--pdeathsig", "KILL", "--"]

const isSandboxName = Schema.is(SandboxName)

/** A new layer with the merged content of a chain. */
export interface Flattened {
  readonly chain: ReadonlyArray<string>
  readonly layer: string
}

/** The chain with the flattened layer in place of the layers that it merges, if the chain ends with these. */
const shortened = (chain: ReadonlyArray<string>, flattened: Flattened | undefined): ReadonlyArray<string> => {
  if (flattened === undefined) return chain
  const above = chain.length - flattened.chain.length
  const fits = above >= 0 && flattened.chain.every((layer, index) => chain[above + index] === layer)
  return fits ? [...chain.slice(0, above), flattened.layer] : chain
}

/** Whether nothing exists at the path. A path that can't be inspected counts as existing. */
const isMissing = (path: string): boolean => {
  try {
    statSync(path)
    return false
  } catch (cause) {
    return (cause as NodeJS.ErrnoException).code === "ENOENT"
  }
}

export const make = (layout: Layout, isolation: Isolation, locks: Locks, trash: Trash) => {
  const flattenedOf = (name: SandboxName) => join(layout.flattened, name)

  /** Discards the flattened layer of a sandbox unless a pending snapshot needs it. Requires the sandbox's `flattening` lock. */
  const discardFlattened = (name: SandboxName) =>
    Effect.suspend(() =>
      existsSync(layout.sandbox(name).pendingSnapshot) ? Effect.void : Effect.asVoid(trash.discard(flattenedOf(name)))
    )

  /** Whether the sandbox's chain must be flattened before a snapshot. */
  const needsFlattening = ({ chain }: Pick<SandboxRecord, "chain">, flattened?: Flattened) =>
    isolation.kind !== "none" && shortened(chain, flattened).length >= maxChain

  const copyMerged = Effect.fnUntraced(function* ({ chain, name, ...record }: SandboxRecord, layer: string) {
    const user = isolation.userOf(record)
    const target = join(flattenedOf(name), layer)
    yield* attempt("flatten", async () => {
      await mkdir(flattenedOf(name), { recursive: true, mode: 0o711 })
      await mkdir(target)
      if (user !== false) await chown(target, user, user)
    })
    const layers = [...chain, "base"].map((id) => `layers/${id}`).join(":")
    const namespaces = ["unshare", "--user", "--map-root-user", "--mount"]
    const script = ["sh", "-c", flattenScript, "flatten", `${name}/${layer}`, layers]
    const command = [...namespaces, ...endsWithParent, ...script]
    const { code, stderr } = yield* Effect.timeoutOrElse(run("flatten", command, { cwd: layout.root, user }), {
      duration: flattenTimeout,
      orElse: () =>
        Effect.succeed({ code: 124, stderr: `the copy took longer than ${Duration.format(flattenTimeout)}` })
    })
    if (code !== 0) return yield* new SandboxUnavailable({ operation: "flatten", retryable: false, cause: stderr })
  })

  /**
   * Copies the merged content of a sandbox's chain into a new layer, and passes it to `use`. The sandbox is not locked
   * during the copy. If it is removed or its chain changes, the copy may be incomplete, but then it fits no chain.
   */
  const flatten = <A, E, R>(record: SandboxRecord, use: (flattened: Flattened) => Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const layer = randomId()
      yield* discardFlattened(record.name)
      yield* copyMerged(record, layer)
      return yield* use({ chain: record.chain, layer })
    }).pipe(Effect.ensuring(Effect.ignore(discardFlattened(record.name))))

  /**
   * Completes the pending snapshot of a stopped sandbox: moves its own files to a layer, adds that to its chain, and writes
   * the snapshot. Each step can be repeated after a crash. Requires the sandbox's lock. Uninterruptible, because the lock
   * would be released before the last step has ended.
   */
  const complete = Effect.fnUntraced(function* (record: SandboxRecord) {
    const files = layout.sandbox(record.name)
    const pending = yield* attemptSync("snapshot", () => readJson<StoredSnapshot>(files.pendingSnapshot))
    if (pending === undefined) return record
    const layer = layout.layer(pending.chain[0]!)
    const next: SandboxRecord = { ...record, chain: pending.chain }
    yield* attempt("snapshot", async () => {
      for (const flattened of listNames(flattenedOf(record.name))) {
        if (!pending.chain.includes(flattened)) continue
        await rename(join(flattenedOf(record.name), flattened), layout.layer(flattened))
      }
      if (!existsSync(layer)) await rename(files.upper, layer)
    })
    yield* trash.discard(files.work)
    yield* attempt("snapshot", async () => {
      await syncParentDirectory(layer)
      await writeJsonAtomically(files.record, next, { durable: true })
      // Written in the locked sandbox's directory, so that no other process removes it as a leftover.
      const written = join(files.root, "snapshot.json")
      await writeJsonAtomically(written, pending, { durable: true })
      await rename(written, layout.snapshot(pending.id))
      await syncParentDirectory(layout.snapshot(pending.id))
    })
    yield* isolation.prepare(files, next)
    yield* attempt("snapshot", () => rm(files.pendingSnapshot))
    return next
  }, Effect.uninterruptible)

  /** Completes an interrupted snapshot of the stopped sandbox, and returns the sandbox's new record. */
  const completePending = (record: SandboxRecord) =>
    Effect.suspend(() =>
      existsSync(layout.sandbox(record.name).pendingSnapshot) ? complete(record) : Effect.succeed(record)
    )

  /** Whether the stopped sandbox has lost its own files or one of its layers. */
  const isLost = (record: SandboxRecord) =>
    attemptSync("resume", () => {
      const files = layout.sandbox(record.name)
      const moved = readJson<StoredSnapshot>(files.pendingSnapshot)?.chain.slice(0, 1) ?? []
      const layers = isolation.kind === "none" ? [] : record.chain
      const hasLostOwnFiles = [files.upper, ...moved.map(layout.layer)].every(isMissing)
      return hasLostOwnFiles || layers.map(layout.layer).some(isMissing)
    })

  /** Takes a snapshot of the stopped sandbox. Stores the intent first. Requires the sandbox's lock. */
  const take = Effect.fnUntraced(function* (stopped: SandboxRecord, now: number, flattened?: Flattened) {
    const files = layout.sandbox(stopped.name)
    const record = yield* completePending(stopped)
    const pending: StoredSnapshot = {
      id: SnapshotId.make(`snap_${randomId()}${randomId()}`),
      source: record.name,
      createdAt: now,
      chain: [randomId(), ...(isolation.kind === "none" ? [] : shortened(record.chain, flattened))],
      ...(record.user === undefined ? {} : { user: record.user })
    }
    yield* attempt("snapshot", () => writeJsonAtomically(files.pendingSnapshot, pending, { durable: true }))
    yield* complete(record)
    return toSnapshot(pending)
  }, Effect.uninterruptible)

  /** Removes flattened layers and snapshot files that killed processes left incomplete. */
  const removeLeftovers = Effect.gen(function* () {
    const flattened = yield* attempt("clean", () => readdir(layout.flattened))
    for (const name of flattened.filter(isSandboxName)) yield* locks.ifNotFlattening(name)(discardFlattened(name))
    yield* attempt("clean", async () => {
      for (const name of await readdir(layout.snapshots)) {
        if (!isSnapshotFile(name)) await rm(join(layout.snapshots, name), { force: true })
      }
    })
  })

  /** The snapshots of a sandbox. */
  const list = (source: SandboxName) =>
    attempt("snapshots", async () => {
      const names = (await readdir(layout.snapshots)).filter(isSnapshotFile)
      const all = names.flatMap((name) => readJson<StoredSnapshot>(join(layout.snapshots, name)) ?? [])
      return all.filter((stored) => stored.source === source).map(toSnapshot)
    })

  const remove = (id: SnapshotId) => attempt("snapshot", () => rm(layout.snapshot(id), { force: true }))

  return { needsFlattening, flatten, take, completePending, isLost, list, remove, removeLeftovers }
}

export type Images = ReturnType<typeof make>
