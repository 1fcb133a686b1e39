/** Records who uses the layers of snapshots, and moves unused layers to the trash. */
import type { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { SnapshotGone } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Array as Arrays, Effect, Semaphore } from "effect"
import { appendFileSync, rmSync, writeFileSync } from "node:fs"
import { mkdir, readdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { attempt, attemptSync } from "../process/attempt.ts"
import type { Locks } from "../process/Locks.ts"
import { listNames, randomId, readJson, readText } from "../storage/files.ts"
import type { Layout } from "../storage/Layout.ts"
import type { SandboxRecord } from "../storage/SandboxRecord.ts"
import { isSnapshotFile, type StoredSnapshot } from "./StoredSnapshot.ts"
import type { Trash } from "./Trash.ts"

/** Layers that are moved while the lock on layers is held once. */
const movedPerLock = 8

/** The layers of a sandbox or a snapshot; undefined if the file is gone. */
const readChain = async (file: string): Promise<ReadonlyArray<string> | undefined> => {
  try {
    return (JSON.parse(await readFile(file, "utf8")) as Pick<SandboxRecord, "chain">).chain
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw cause
  }
}

/** The layers that no sandbox and no snapshot uses. */
const findUnused = (layout: Layout) =>
  attempt("collect", async () => {
    const candidates = new Set(await readdir(layout.layers))
    candidates.delete("base")
    const exclude = async (file: string) => {
      if (candidates.size === 0) return
      for (const layer of (await readChain(file)) ?? []) candidates.delete(layer)
    }
    // A pending snapshot is written to the sandbox's record before its intent is removed, and a snapshot is written before
    // its sandbox is removed. Read in this order, a layer that changes hands is seen in one of the files.
    for (const name of await readdir(layout.sandboxes)) {
      for (const file of ["moving.json", "spec.json"]) await exclude(join(layout.sandboxes, name, file))
    }
    for (const name of await readdir(layout.snapshots)) {
      if (isSnapshotFile(name)) await exclude(join(layout.snapshots, name))
    }
    return [...candidates]
  })

/** Shares one run of an effect among the callers that arrive before it starts. */
const coalesced = <E, R>(effect: Effect.Effect<void, E, R>): Effect.Effect<void, E, R> => {
  const permit = Semaphore.makeUnsafe(1)
  let started = 0
  let finished = 0
  return Effect.suspend(() => {
    const startedBefore = started
    return permit.withPermits(1)(
      Effect.suspend(() => {
        if (finished > startedBefore) return Effect.void
        const run = ++started
        return Effect.tap(effect, () => Effect.sync(() => (finished = run)))
      })
    )
  })
}

export const make = (layout: Layout, locks: Locks, trash: Trash) => {
  /**
   * Runs `record`, which stores a sandbox that uses a snapshot's layers. Collections under way learn of these layers: they
   * may have read the sandbox's record already, and read the snapshot only once it is deleted.
   */
  const useSnapshot = <A, E, R>(
    id: SnapshotId,
    record: (stored: Pick<SandboxRecord, "chain" | "user">) => Effect.Effect<A, E, R>
  ) =>
    locks.layers(
      Effect.gen(function* () {
        const stored = yield* attemptSync("snapshot", () => readJson<StoredSnapshot>(layout.snapshot(id)))
        if (stored === undefined) return yield* new SnapshotGone({ id })
        yield* attemptSync("snapshot", () => {
          const lines = stored.chain.map((layer) => `${layer}\n`).join("")
          for (const name of listNames(layout.collecting)) appendFileSync(join(layout.collecting, name), lines)
        })
        return yield* record(stored)
      })
    )

  /** Moves unused layers to the trash, except those that a sandbox began to use since the collection started. */
  const moveToTrash = (collection: string, layers: ReadonlyArray<string>) =>
    locks.layers(
      Effect.gen(function* () {
        const text = yield* attemptSync("collect", () => readText(collection))
        // Another process that started has removed the file as a leftover. The next collection finds the layers again.
        if (text === undefined) return
        const used = new Set(text.split("\n"))
        for (const layer of layers) if (!used.has(layer)) yield* trash.discard(layout.layer(layer))
      })
    )

  const collectOnce = Effect.suspend(() => {
    const collection = join(layout.collecting, randomId())
    const begin = attempt("collect", () => mkdir(layout.collecting, { recursive: true, mode: 0o700 })).pipe(
      Effect.andThen(locks.layers(attemptSync("collect", () => writeFileSync(collection, "", { mode: 0o600 }))))
    )
    return begin.pipe(
      Effect.andThen(findUnused(layout)),
      Effect.flatMap((layers) =>
        Effect.forEach(Arrays.chunksOf(layers, movedPerLock), (some) => moveToTrash(collection, some), {
          discard: true
        })
      ),
      Effect.ensuring(Effect.sync(() => rmSync(collection, { force: true })))
    )
  })

  /** Removes the files of collections that were cut off. */
  const removeLeftovers = locks.layers(
    attemptSync("clean", () => {
      for (const name of listNames(layout.collecting)) rmSync(join(layout.collecting, name), { force: true })
    })
  )

  return {
    useSnapshot,
    /** Moves the layers that no sandbox and no snapshot uses to the trash. */
    collectUnused: coalesced(collectOnce),
    removeLeftovers
  }
}

export type Layers = ReturnType<typeof make>
