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
import { temporaryDirectory } from "../temporary.ts"

const source = SandboxName.make(`long-${process.pid}`)
const other = SandboxName.make(`other-${process.pid}`)
const copy = SandboxName.make(`copy-${process.pid}`)
const file = SandboxPath.make("file")
const lifetime = Duration.minutes(5)

/** The length of a chain that the next snapshot flattens. */
const longChain = 60

/** Extra files, so that the copy takes some time. */
const filesCopied = 4000

/** Creates a sandbox whose next snapshot flattens its chain, and returns a snapshot of it. */
const createLongChain = Effect.fnUntraced(function* (directory: string) {
  const provider = yield* SandboxProvider
  yield* provider.create({ name: source, from: Option.none(), lifetime })
  yield* provider.writeFile(source, file, Stream.make(new TextEncoder().encode("precious")))
  const snapshot = yield* provider.snapshot(source)
  // Instead of taking that many snapshots.
  yield* Effect.promise(async () => {
    const path = join(directory, "sandboxes", source, "spec.json")
    const spec = JSON.parse(await readFile(path, "utf8")) as { readonly chain: ReadonlyArray<string> }
    const more = Array.from({ length: longChain - spec.chain.length }, (_, n) => `between-${n}`)
    const { uid, gid } = await stat(join(directory, "layers", spec.chain[0]!))
    for (const layer of more) {
      await mkdir(join(directory, "layers", layer), { mode: 0o755 })
      await chown(join(directory, "layers", layer), uid, gid)
    }
    // So many files that the copy can be observed.
    for (let n = 0; n < filesCopied; n++) {
      const path = join(directory, "layers", more[0]!, `file-${n}`)
      writeFileSync(path, "")
      chownSync(path, uid, gid)
    }
    await writeFile(path, JSON.stringify({ ...spec, chain: [...more, ...spec.chain] }))
  })
  return snapshot
})

const readText = (name: SandboxName) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    provider.readFile(name, file).pipe(Stream.decodeText(), Stream.mkString)
  )

/** The names in a directory; none if it was removed. */
const namesIn = (directory: string): ReadonlyArray<string> => {
  try {
    return readdirSync(directory)
  } catch {
    return []
  }
}

/** The processes that copy layers in the directory, found by their arguments. */
const copiers = (directory: string): ReadonlyArray<number> => {
  const copies = readdirSync(join(directory, "flat")).flatMap((name) => namesIn(join(directory, "flat", name)))
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

/** Suspends the copy of layers for the fiber `by` as soon as it starts, until the scope closes. */
const suspendCopy = (directory: string, by: Fiber.Fiber<unknown, unknown>) =>
  Effect.acquireRelease(
    Effect.promise(async (signal) => {
      while (!signal.aborted) {
        const pids = copiers(directory)
        for (const pid of pids) process.kill(pid, "SIGSTOP")
        if (pids.length > 0) return pids
        if (by.pollUnsafe() !== undefined) throw new Error("the copy ended before it could be suspended")
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
            // The process was killed.
          }
        }
      })
  )

const entriesOf = (directory: string, inside: string) => Effect.promise(() => readdir(join(directory, inside)))

describe("A snapshot that flattens a long chain of layers", () => {
  it.live("does not block other sandboxes or a server that starts while it flattens, and loses no file", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const first = yield* createLongChain(directory)
        const flattened = yield* Effect.forkChild(provider.snapshot(source))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* suspendCopy(directory, flattened)
            // Every other operation on layers: boot from a snapshot, take one, remove both.
            yield* provider.create({ name: other, from: Option.some(first.id), lifetime })
            const another = yield* provider.snapshot(other)
            yield* provider.remove(other)
            yield* provider.removeSnapshot(another.id)
            const { request } = yield* providerProcess(directory)
            yield* request({ do: "create", name: copy, from: first.id, lifetime: Duration.toMillis(lifetime) })
            yield* request({ do: "remove", name: copy })
            assert.isUndefined(flattened.pollUnsafe())
          })
        )
        const { id } = yield* Fiber.join(flattened)
        yield* provider.create({ name: copy, from: Option.some(id), lifetime })
        yield* provider.resume(source, lifetime)
        assert.deepStrictEqual([yield* readText(copy), yield* readText(source)], ["precious", "precious"])
        for (const name of [source, copy]) yield* provider.remove(name)
        yield* provider.removeSnapshot(first.id)
        assert.lengthOf(yield* entriesOf(directory, "layers"), 3)
        yield* provider.removeSnapshot(id)
        assert.deepStrictEqual(yield* entriesOf(directory, "layers"), ["base"])
        for (const empty of ["flat", "collecting"]) assert.deepStrictEqual(yield* entriesOf(directory, empty), [])
        // The lock file of a sandbox is removed at each release.
        while ((yield* entriesOf(directory, "locks")).length > 2) yield* Effect.sleep("10 millis")
        assert.deepStrictEqual((yield* entriesOf(directory, "locks")).toSorted(), ["directory", "layers"])
      }).pipe(Effect.provide(LocalSandbox.layer({ directory })))
    }).pipe(Effect.scoped)
  )

  it.live("leaves nothing behind when its server is killed, and can be taken again", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* Effect.provide(createLongChain(directory), LocalSandbox.layer({ directory }))
      yield* Effect.scoped(
        Effect.gen(function* () {
          const { kill, tryRequest } = yield* providerProcess(directory)
          const cut = yield* Effect.forkChild(tryRequest({ do: "snapshot", name: source }))
          yield* suspendCopy(directory, cut)
          yield* kill
          assert.strictEqual((yield* Fiber.join(cut)).failed, "Killed")
        })
      )
      yield* Effect.gen(function* () {
        assert.deepStrictEqual(yield* entriesOf(directory, "flat"), [])
        assert.lengthOf(yield* entriesOf(directory, "layers"), longChain + 1)
        const provider = yield* SandboxProvider
        const { id } = yield* provider.snapshot(source)
        yield* provider.create({ name: copy, from: Option.some(id), lifetime })
        assert.strictEqual(yield* readText(copy), "precious")
        for (const name of [source, copy]) yield* provider.remove(name)
      }).pipe(Effect.provide(LocalSandbox.layer({ directory })))
    }).pipe(Effect.scoped)
  )

  it.live("is completed by the next server if its intent was stored, and loses no file", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* Effect.gen(function* () {
        const provider = yield* SandboxProvider
        yield* provider.create({ name: source, from: Option.none(), lifetime })
        yield* provider.writeFile(source, file, Stream.make(new TextEncoder().encode("precious")))
        yield* provider.snapshot(source)
      }).pipe(Effect.provide(LocalSandbox.layer({ directory })))
      yield* Effect.promise(async () => {
        const layers = (await readdir(join(directory, "layers"))).filter((layer) => layer !== "base")
        await mkdir(join(directory, "flat", source))
        execFileSync("cp", ["-a", join(directory, "layers", layers[0]!), join(directory, "flat", source, "flattened")])
        const intent = { id: "snap_cut-off", source, createdAt: 1, chain: ["own", "flattened"] }
        await writeFile(join(directory, "sandboxes", source, "moving.json"), JSON.stringify(intent))
      })
      yield* Effect.gen(function* () {
        const provider = yield* SandboxProvider
        yield* provider.create({ name: copy, from: Option.some(SnapshotId.make("snap_cut-off")), lifetime })
        yield* provider.resume(source, lifetime)
        assert.deepStrictEqual([yield* readText(copy), yield* readText(source)], ["precious", "precious"])
        assert.deepStrictEqual(yield* entriesOf(directory, "flat"), [])
        for (const name of [source, copy]) yield* provider.remove(name)
      }).pipe(Effect.provide(LocalSandbox.layer({ directory })))
    }).pipe(Effect.scoped)
  )

  it.live("fails with SandboxGone if the sandbox is removed during the copy, and leaves nothing behind", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* Effect.gen(function* () {
        const provider = yield* SandboxProvider
        const first = yield* createLongChain(directory)
        const flattened = yield* Effect.forkChild(Effect.exit(provider.snapshot(source)))
        yield* Effect.scoped(
          Effect.gen(function* () {
            yield* suspendCopy(directory, flattened)
            yield* provider.remove(source)
            yield* provider.removeSnapshot(first.id)
          })
        )
        const exit = yield* Fiber.join(flattened)
        assert.strictEqual(Option.getOrUndefined(Exit.findErrorOption(exit))?._tag, "SandboxGone")
        assert.deepStrictEqual(yield* entriesOf(directory, "layers"), ["base"])
        assert.deepStrictEqual(yield* entriesOf(directory, "flat"), [])
      }).pipe(Effect.provide(LocalSandbox.layer({ directory })))
    }).pipe(Effect.scoped)
  )
})
