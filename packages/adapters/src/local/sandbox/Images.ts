/** Images as chains of read-only layers: taking one and booting from one cost the same whatever lies in them. */
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { Snapshot, SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { SandboxUnavailable, SnapshotGone } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { Array as Arrays, DateTime, Duration, Effect, Schema, Semaphore } from "effect"
import { appendFileSync, existsSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { chown, mkdir, readdir, readFile, rename, rm } from "node:fs/promises"
import { join } from "node:path"
import { attempt, attemptNow } from "../process/Host.ts"
import type { Isolation } from "../isolation/Isolation.ts"
import { fresh, type Layout, readJson, readText, syncDirectory, writeWhole } from "./Layout.ts"
import type { Locks } from "../process/Locks.ts"
import type { Spec } from "./Machines.ts"
import { flatten as flattenScript } from "../isolation/scripts.ts"
import { run } from "../process/Spawner.ts"
import type { Trash } from "./Trash.ts"

interface StoredSnapshot {
  readonly id: SnapshotId
  readonly source: Spec["name"]
  readonly createdAt: number
  readonly chain: ReadonlyArray<string>
  /** As `Spec` has it: the files belong to that user. */
  readonly user?: number
}

/** Layers of a chain. A longer one is flattened into one layer. A mount's options must fit in 4096 bytes. */
const longestChain = 60

/** The most time that flattening a chain may take. */
const flattenedWithin = Duration.minutes(30)

/** The prefix of a copying command that kills the copy when the server ends. */
const endsWithParent = ["setpriv", "--pdeathsig", "KILL", "--"]

const isSandboxName = Schema.is(SandboxName)

/** Layers that are moved away while the lock on layers is held once. */
const movedAtOnce = 8

/** A layer that shows what the chain shows, on its way. */
export interface Flattened {
  readonly chain: ReadonlyArray<string>
  readonly layer: string
}

const toSnapshot = (stored: StoredSnapshot): Snapshot =>
  new Snapshot({ id: stored.id, source: stored.source, createdAt: DateTime.makeUnsafe(stored.createdAt) })

/** The chain with the flattened layer in place of those that it was made of, where the chain stands on them. */
const shortened = (chain: ReadonlyArray<string>, flattened: Flattened | undefined): ReadonlyArray<string> => {
  if (flattened === undefined) return chain
  const above = chain.length - flattened.chain.length
  const isOn = above >= 0 && flattened.chain.every((layer, n) => chain[above + n] === layer)
  return isOn ? [...chain.slice(0, above), flattened.layer] : chain
}

export const make = (layout: Layout, isolation: Isolation, locks: Locks, trash: Trash) => {
  const collecting = join(layout.root, "collecting")
  const flatOf = (name: Spec["name"]) => join(layout.root, "flat", name)

  /** Removes what was copied for a sandbox, unless a snapshot under way needs it. Only the holder of its `flattening` lock does. */
  const discardFlat = (name: Spec["name"]) =>
    Effect.suspend(() =>
      existsSync(layout.sandbox(name).moving) ? Effect.void : Effect.asVoid(trash.discard(flatOf(name)))
    )

  /**
   * Records a sandbox that stands on a snapshot's layers. A collection of unused layers that is under way learns of them:
   * it may have looked at the sandbox already, and at the snapshot only once that is deleted.
   */
  const standOn = <A, E, R>(id: SnapshotId, record: (stored: Pick<Spec, "chain" | "user">) => Effect.Effect<A, E, R>) =>
    locks.layers(
      Effect.gen(function* () {
        const stored = yield* attemptNow("snapshot", () => readJson<StoredSnapshot>(layout.snapshot(id)))
        if (stored === undefined) return yield* new SnapshotGone({ id })
        yield* attemptNow("snapshot", () => {
          const lines = stored.chain.map((layer) => `${layer}\n`).join("")
          for (const name of namesIn(collecting)) appendFileSync(join(collecting, name), lines)
        })
        return yield* record(stored)
      })
    )

  /** Whether a snapshot of the sandbox needs a shorter chain first. */
  const isLong = ({ chain }: Pick<Spec, "chain">, flattened?: Flattened) =>
    isolation.kind !== "none" && shortened(chain, flattened).length >= longestChain

  /**
   * Copies what a sandbox's chain shows into one layer aside, for `use` to put in the chain's place. No lock is held on
   * the sandbox meanwhile. Where that is removed, or its chain changes, the copy may be incomplete: it does not fit any
   * chain by then.
   */
  const flatten = <A, E, R>({ chain, name, ...spec }: Spec, use: (flattened: Flattened) => Effect.Effect<A, E, R>) =>
    Effect.gen(function* () {
      const layer = fresh()
      const user = isolation.userOf(spec)
      const layers = [...chain, "base"].map((layer) => `layers/${layer}`).join(":")
      const namespaces = ["unshare", "--user", "--map-root-user", "--mount"]
      yield* discardFlat(name)
      const whole = join(flatOf(name), layer)
      yield* attempt("flatten", async () => {
        await mkdir(flatOf(name), { recursive: true, mode: 0o711 })
        await mkdir(whole)
        if (user !== false) await chown(whole, user, user)
      })
      const script = ["sh", "-c", flattenScript, "flatten", `${name}/${layer}`, layers]
      const { code, stderr } = yield* run("flatten", [...namespaces, ...endsWithParent, ...script], {
        cwd: layout.root,
        user
      }).pipe(
        Effect.timeoutOrElse({
          duration: flattenedWithin,
          orElse: () =>
            Effect.succeed({ code: 124, stderr: `The copy took longer than ${Duration.format(flattenedWithin)}` })
        })
      )
      if (code !== 0) {
        return yield* new SandboxUnavailable({ operation: "flatten", retryable: false, cause: stderr })
      }
      return yield* use({ chain, layer })
    }).pipe(Effect.ensuring(Effect.ignore(discardFlat(name))))

  /**
   * Makes the stopped sandbox's own files a layer. The intent is written first, so that another process can finish after a
   * crash: move the files, lengthen the chain, write the snapshot. Only the holder of the sandbox's lock does it. It is not
   * interrupted, since the lock would be released before the last step had ended.
   */
  const finished = Effect.fnUntraced(function* (spec: Spec) {
    const files = layout.sandbox(spec.name)
    const moving = yield* attemptNow("snapshot", () => readJson<StoredSnapshot>(files.moving))
    if (moving === undefined) return spec
    const [layer] = moving.chain
    const next: Spec = { ...spec, chain: moving.chain }
    yield* attempt("snapshot", async () => {
      for (const flat of namesIn(flatOf(spec.name))) {
        if (moving.chain.includes(flat)) await rename(join(flatOf(spec.name), flat), layout.layer(flat))
      }
      if (!existsSync(layout.layer(layer!))) await rename(files.upper, layout.layer(layer!))
    })
    yield* trash.discard(files.work)
    yield* attempt("snapshot", async () => {
      await syncDirectory(layout.layer(layer!))
      await writeWhole(files.spec, next, { durable: true })
      // Written beside the sandbox, whose lock is held: nobody takes it for abandoned.
      const whole = join(files.root, "snapshot.json")
      await writeWhole(whole, moving, { durable: true })
      await rename(whole, layout.snapshot(moving.id))
      await syncDirectory(layout.snapshot(moving.id))
    })
    yield* isolation.prepare(files, next)
    yield* attempt("snapshot", () => rm(files.moving))
    return next
  }, Effect.uninterruptible)

  /** Finishes a snapshot of the stopped sandbox that was cut off, and gives what the sandbox is then. */
  const finish = (spec: Spec) =>
    Effect.suspend(() => (existsSync(layout.sandbox(spec.name).moving) ? finished(spec) : Effect.succeed(spec)))

  /** Whether something that the stopped sandbox stands on is not there any more: its own files, or a layer below them. */
  const isLost = (spec: Spec) =>
    attemptNow("resume", () => {
      const files = layout.sandbox(spec.name)
      const moved = readJson<StoredSnapshot>(files.moving)?.chain.slice(0, 1) ?? []
      const below = isolation.kind === "none" ? [] : spec.chain
      const isOwnLost = [files.upper, ...moved.map(layout.layer)].every(isMissing)
      return isOwnLost || below.map(layout.layer).some(isMissing)
    })

  /** Takes a snapshot of the stopped sandbox, whose lock is held. */
  const take = Effect.fnUntraced(function* (stopped: Spec, now: number, flattened?: Flattened) {
    const files = layout.sandbox(stopped.name)
    const spec = yield* finish(stopped)
    const moving: StoredSnapshot = {
      id: SnapshotId.make(`snap_${fresh()}${fresh()}`),
      source: spec.name,
      createdAt: now,
      chain: [fresh(), ...(isolation.kind === "none" ? [] : shortened(spec.chain, flattened))],
      ...(spec.user === undefined ? {} : { user: spec.user })
    }
    yield* attempt("snapshot", () => writeWhole(files.moving, moving, { durable: true }))
    yield* finished(spec)
    return toSnapshot(moving)
  }, Effect.uninterruptible)

  /** The layers that no sandbox and no snapshot stands on. */
  const unused = attempt("collect", async () => {
    const candidates = new Set(await readdir(layout.layers))
    candidates.delete("base")
    const use = async (file: string) => {
      if (candidates.size === 0) return
      for (const layer of (await readChain(file)) ?? []) candidates.delete(layer)
    }
    // A snapshot under way is written into the sandbox's spec before its intent is removed, and so is a snapshot before
    // its sandbox: read in this order, a layer that changes hands is seen in one of them.
    for (const name of await readdir(layout.sandboxes)) {
      for (const file of ["moving.json", "spec.json"]) await use(join(layout.sandboxes, name, file))
    }
    for (const name of await readdir(layout.snapshots)) if (isWhole(name)) await use(join(layout.snapshots, name))
    return [...candidates]
  })

  /** Moves unused layers to the trash, but those that a sandbox came to stand on since the collection began. */
  const moveAway = (record: string, layers: ReadonlyArray<string>) =>
    locks.layers(
      Effect.gen(function* () {
        const text = yield* attemptNow("collect", () => readText(record))
        // Another process that started took the record for abandoned. The next collection finds the layers again.
        if (text === undefined) return
        const used = new Set(text.split("\n"))
        for (const layer of layers) if (!used.has(layer)) yield* trash.discard(layout.layer(layer))
      })
    )

  const collectOnce = Effect.suspend(() => {
    const record = join(collecting, fresh())
    const begin = attempt("collect", () => mkdir(collecting, { recursive: true, mode: 0o700 })).pipe(
      Effect.andThen(locks.layers(attemptNow("collect", () => writeFileSync(record, "", { mode: 0o600 }))))
    )
    return begin.pipe(
      Effect.andThen(unused),
      Effect.flatMap((layers) =>
        Effect.forEach(Arrays.chunksOf(layers, movedAtOnce), (some) => moveAway(record, some), { discard: true })
      ),
      Effect.ensuring(Effect.sync(() => rmSync(record, { force: true })))
    )
  })

  const turn = Semaphore.makeUnsafe(1)
  let begun = 0
  let ended = 0

  /**
   * Moves the layers that no sandbox and no snapshot uses to the trash. Calls that arrive while a collection runs share the
   * next one.
   */
  const collect = Effect.suspend(() => {
    const before = begun
    return turn.withPermits(1)(
      Effect.suspend(() => {
        if (ended > before) return Effect.void
        const mine = ++begun
        return Effect.tap(collectOnce, () => Effect.sync(() => (ended = mine)))
      })
    )
  })

  /** Removes what killed processes had begun to write and no process goes on with. */
  const clear = Effect.gen(function* () {
    const flat = yield* attempt("clean", () => readdir(join(layout.root, "flat")))
    for (const name of flat.filter(isSandboxName)) yield* locks.ifNotFlattening(name)(discardFlat(name))
    yield* locks.layers(
      attemptNow("clean", () => {
        for (const name of namesIn(collecting)) rmSync(join(collecting, name), { force: true })
      })
    )
    yield* attempt("clean", async () => {
      const names = await readdir(layout.snapshots)
      for (const name of names) if (!isWhole(name)) await rm(join(layout.snapshots, name), { force: true })
    })
  })

  /** The snapshots that were made of a sandbox. */
  const of = (source: Spec["name"]) =>
    attempt("snapshots", async () => {
      const names = await readdir(layout.snapshots)
      const whole = names.filter(isWhole)
      const all = whole.flatMap((name) => readJson<StoredSnapshot>(join(layout.snapshots, name)) ?? [])
      return all.flatMap((stored) => (stored.source === source ? [toSnapshot(stored)] : []))
    })

  const forget = (id: SnapshotId) => attempt("snapshot", () => rm(layout.snapshot(id), { force: true }))

  return { standOn, isLong, flatten, take, finish, isLost, of, forget, collect, clear }
}

/** The names in a directory; none where there is no such directory. */
const namesIn = (directory: string): ReadonlyArray<string> => {
  try {
    return readdirSync(directory)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return []
    throw cause
  }
}

/** The chain that a sandbox or a snapshot stands on; undefined where the file is gone. */
const readChain = async (file: string): Promise<ReadonlyArray<string> | undefined> => {
  try {
    return (JSON.parse(await readFile(file, "utf8")) as Pick<Spec, "chain">).chain
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === "ENOENT") return undefined
    throw cause
  }
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
