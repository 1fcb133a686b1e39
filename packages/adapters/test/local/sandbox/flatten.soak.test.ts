import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Exit, Fiber, Option, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { chownSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { chown, mkdir, readdir, readFile, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { setImmediate } from "node:timers/promises"
import { providerProcess } from "../process/providerProcesses.ts"
import { directory } from "../temporary.ts"

const source = SandboxName.make(`long-${process.pid}`)
const other = SandboxName.make(`other-${process.pid}`)
const copy = SandboxName.make(`copy-${process.pid}`)
const file = SandboxPath.make("file")
const lifetime = Duration.minutes(5)

/** Layers of a chain that the next snapshot flattens. */
const longest = 60

/** Files that are copied beside the one that counts. */
const filesCopied = 4000

/** A sandbox whose next snapshot flattens its chain; gives a snapshot of it. */
const long = Effect.fnUntraced(function* (at: string) {
  const provider = yield* SandboxProvider
  yield* provider.create({ name: source, from: Option.none(), lifetime })
  yield* provider.writeFile(source, file, Stream.make(new TextEncoder().encode("precious")))
  const snapshot = yield* provider.snapshot(source)
  // In place of that many snapshots.
  yield* Effect.promise(async () => {
    const path = join(at, "sandboxes", source, "spec.json")
    const spec = JSON.parse(await readFile(path, "utf8")) as { readonly chain: ReadonlyArray<string> }
    const more = Array.from({ length: longest - spec.chain.length }, (_, n) => `between-${n}`)
    const { uid, gid } = await stat(join(at, "layers", spec.chain[0]!))
    for (const layer of more) {
      await mkdir(join(at, "layers", layer), { mode: 0o755 })
      await chown(join(at, "layers", layer), uid, gid)
    }
    // Copying takes long enough to be seen.
    for (let n = 0; n < filesCopied; n++) {
      const path = join(at, "layers", more[0]!, `file-${n}`)
      writeFileSync(path, "")
      chownSync(path, uid, gid)
    }
    await writeFile(path, JSON.stringify({ ...spec, chain: [...more, ...spec.chain] }))
  })
  return snapshot
})

const text = (of: SandboxName) =>
  Effect.flatMap(SandboxProvider, (provider) => provider.readFile(of, file).pipe(Stream.decodeText(), Stream.mkString))

/** The names in a directory that may be removed meanwhile. */
const namesIn = (directory: string): ReadonlyArray<string> => {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

/** The processes that copy layers in the directory: their arguments name the copy. */
const copiers = (at: string): ReadonlyArray<number> => {
  const copies = readdirSync(join(at, "flat")).flatMap((name) => namesIn(join(at, "flat", name)))
  if (copies.length === 0) return []
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        const args = readFileSync(`/proc/${pid}/cmdline`, "utf8")
        return args.includes("flat") && copies.some((name) => args.includes(name))
      } catch {
        return false
      }
    })
}

/** Suspends the copying of layers for `by` as soon as it begins, for as long as the scope is open. */
const heldUp = (at: string, by: Fiber.Fiber<unknown, unknown>) =>
  Effect.acquireRelease(
    Effect.promise(async (signal) => {
      while (!signal.aborted) {
        const pids = copiers(at)
        for (const pid of pids) process.kill(pid, "SIGSTOP")
        if (pids.length > 0) return pids
        if (by.pollUnsafe() !== undefined) throw new Error("the copy was over before it was held up")
        await setImmediate()
      }
      return []
    }),
    (pids) =>
      Effect.sync(() => {
        for (const pid of pids) {
          try {
            process.kill(pid, "SIGCONT")
          } catch {
            // It was killed.
          }
        }
      })
  )

const left = (at: string, inside: string) => Effect.promise(() => readdir(join(at, inside)))

describe("A snapshot that flattens a long chain of layers", () => {
  it.live("does not keep other sandboxes waiting, nor a server that starts, and loses no file", () =>
    Effect.gen(function* () {
      const at = yield* directory
      yield* Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const first = yield* long(at)
        const flattened = yield* Effect.forkChild(provider.snapshot(source))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* heldUp(at, flattened)
            // Every operation that concerns layers: boot from a snapshot, take one, remove both.
            yield* provider.create({ name: other, from: Option.some(first.id), lifetime })
            const another = yield* provider.snapshot(other)
            yield* provider.remove(other)
            yield* provider.removeSnapshot(another.id)
            const { told } = yield* providerProcess(at)
            yield* told({ do: "create", name: copy, from: first.id, lifetime: Duration.toMillis(lifetime) })
            yield* told({ do: "remove", name: copy })
            assert.isUndefined(flattened.pollUnsafe())
          })
        )
        const { id } = yield* Fiber.join(flattened)
        yield* provider.create({ name: copy, from: Option.some(id), lifetime })
        yield* provider.resume(source, lifetime)
        assert.deepStrictEqual([yield* text(copy), yield* text(source)], ["precious", "precious"])
        for (const name of [source, copy]) yield* provider.remove(name)
        yield* provider.removeSnapshot(first.id)
        assert.lengthOf(yield* left(at, "layers"), 3)
        yield* provider.removeSnapshot(id)
        assert.deepStrictEqual(yield* left(at, "layers"), ["base"])
        for (const empty of ["flat", "collecting"]) assert.deepStrictEqual(yield* left(at, empty), [])
        // Each sandbox has a lock of its own, whose file goes with each release.
        while ((yield* left(at, "locks")).length > 2) yield* Effect.sleep("10 millis")
        assert.deepStrictEqual((yield* left(at, "locks")).toSorted(), ["directory", "layers"])
      }).pipe(Effect.provide(LocalSandbox.layer({ directory: at })))
    }).pipe(Effect.scoped)
  )

  it.live("leaves nothing behind where its server is killed, and can be taken again", () =>
    Effect.gen(function* () {
      const at = yield* directory
      yield* Effect.provide(long(at), LocalSandbox.layer({ directory: at }))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { answer, kill } = yield* providerProcess(at)
          const cut = yield* Effect.forkChild(answer({ do: "snapshot", name: source }))
          yield* heldUp(at, cut)
          yield* kill
          assert.strictEqual((yield* Fiber.join(cut)).failed, "Killed")
        })
      )
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* left(at, "flat"), [])
        assert.lengthOf(yield* left(at, "layers"), longest + 1)
        const provider = yield* SandboxProvider
        const { id } = yield* provider.snapshot(source)
        yield* provider.create({ name: copy, from: Option.some(id), lifetime })
        assert.strictEqual(yield* text(copy), "precious")
        for (const name of [source, copy]) yield* provider.remove(name)
      }).pipe(Effect.provide(LocalSandbox.layer({ directory: at })))
    }).pipe(Effect.scoped)
  )

  it.live("is finished by the next server where its intent was written, and loses no file", () =>
    Effect.gen(function* () {
      const at = yield* directory
      yield* Effect.gen(function* () {
        const provider = yield* SandboxProvider
        yield* provider.create({ name: source, from: Option.none(), lifetime })
        yield* provider.writeFile(source, file, Stream.make(new TextEncoder().encode("precious")))
        yield* provider.snapshot(source)
      }).pipe(Effect.provide(LocalSandbox.layer({ directory: at })))
      yield* Effect.promise(async () => {
        const layers = (await readdir(join(at, "layers"))).filter((layer) => layer !== "base")
        await mkdir(join(at, "flat", source))
        execFileSync("cp", ["-a", join(at, "layers", layers[0]!), join(at, "flat", source, "flattened")])
        const intent = { id: "snap_cut-off", source, createdAt: 1, chain: ["own", "flattened"] }
        await writeFile(join(at, "sandboxes", source, "moving.json"), JSON.stringify(intent))
      })
      yield* Effect.gen(function* () {
        const provider = yield* SandboxProvider
        yield* provider.create({ name: copy, from: Option.some(SnapshotId.make("snap_cut-off")), lifetime })
        yield* provider.resume(source, lifetime)
        assert.deepStrictEqual([yield* text(copy), yield* text(source)], ["precious", "precious"])
        assert.deepStrictEqual(yield* left(at, "flat"), [])
        for (const name of [source, copy]) yield* provider.remove(name)
      }).pipe(Effect.provide(LocalSandbox.layer({ directory: at })))
    }).pipe(Effect.scoped)
  )

  it.live("fails with the sandbox where that is removed meanwhile, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const at = yield* directory
      yield* Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const first = yield* long(at)
        const flattened = yield* Effect.forkChild(Effect.exit(provider.snapshot(source)))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* heldUp(at, flattened)
            yield* provider.remove(source)
            yield* provider.removeSnapshot(first.id)
          })
        )
        const exit = yield* Fiber.join(flattened)
        assert.strictEqual(Option.getOrUndefined(Exit.findErrorOption(exit))?._tag, "SandboxGone")
        assert.deepStrictEqual(yield* left(at, "layers"), ["base"])
        assert.deepStrictEqual(yield* left(at, "flat"), [])
      }).pipe(Effect.provide(LocalSandbox.layer({ directory: at })))
    }).pipe(Effect.scoped)
  )
})
