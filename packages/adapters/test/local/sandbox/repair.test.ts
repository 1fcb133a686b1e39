import * as LocalSandbox from "../../../src/local/LocalSandbox.ts"
import { openProvider } from "../../../src/local/Bootstrap.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { SandboxProvider } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { SnapshotId } from "@castellan/domain/sandbox/Snapshot.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Schedule, Stream } from "effect"
import { execFileSync } from "node:child_process"
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { initsOf } from "../process/providerProcesses.ts"
import { directory } from "../temporary.ts"

const name = SandboxName.make(`source-${process.pid}`)
const id = SnapshotId.make("snap_cut-off")
const layer = "cut0ff"
const file = SandboxPath.make("file")

/** One life of the provider in a directory that outlives it. */
const life = <A, E>(at: string, use: Effect.Effect<A, E, SandboxProvider>) =>
  Effect.provide(use, LocalSandbox.layer({ directory: at }))

const text = (of: SandboxName) =>
  Effect.flatMap(SandboxProvider, (provider) => provider.readFile(of, file).pipe(Stream.decodeText(), Stream.mkString))

const boot = (of: SandboxName, from?: SnapshotId) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    provider.create({ name: of, from: Option.fromUndefinedOr(from), lifetime: Duration.minutes(5) })
  )

/** How far a snapshot may have come when its process was killed, step by step. */
const steps: Record<string, (at: string) => Promise<void>> = {
  "its intent was written": async () => undefined,
  "the files were moved": async (at) => rename(join(at, "sandboxes", name, "upper"), join(at, "layers", layer)),
  "the chain was lengthened": async (at) => {
    const spec = join(at, "sandboxes", name, "spec.json")
    await writeFile(spec, JSON.stringify({ ...JSON.parse(await readFile(spec, "utf8")), chain: [layer] }))
  },
  "the snapshot was written": async (at) => {
    const moving = await readFile(join(at, "sandboxes", name, "moving.json"), "utf8")
    await writeFile(join(at, "snapshots", `${id}.json`), moving)
  },
  "the new directories were made": async (at) => {
    await rm(join(at, "sandboxes", name, "work"), { recursive: true, force: true })
    await mkdir(join(at, "sandboxes", name, "upper"))
  }
}

describe("A sandbox whose creation was cut off", () => {
  it.live("is created by the next server as the user that its files belong to", () =>
    Effect.gen(function* () {
      const at = yield* directory
      yield* life(
        at,
        Effect.flatMap(SandboxProvider, (provider) => Effect.andThen(boot(name), provider.stop(name)))
      )
      const spec = join(at, "sandboxes", name, "spec.json")
      yield* Effect.promise(async () => {
        const written = JSON.parse(await readFile(spec, "utf8")) as object
        await writeFile(spec, JSON.stringify({ ...written, status: "pending" }))
      })
      yield* life(
        at,
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          yield* boot(name)
          yield* provider.writeFile(name, file, Stream.make(new TextEncoder().encode("mine")))
          assert.strictEqual(yield* text(name), "mine")
          yield* provider.remove(name)
        })
      )
    }).pipe(Effect.scoped)
  )
})

describe("A snapshot that was cut off", () => {
  for (const [index, reached] of Object.keys(steps).entries()) {
    it.live(`after ${reached} is finished by the next server, and loses no file`, () =>
      Effect.gen(function* () {
        const at = yield* directory
        yield* life(
          at,
          Effect.gen(function* () {
            const provider = yield* SandboxProvider
            yield* boot(name)
            yield* provider.writeFile(name, file, Stream.make(new TextEncoder().encode("precious")))
            yield* provider.stop(name)
          })
        )
        yield* Effect.promise(async () => {
          const intent = { id, source: name, createdAt: 1, chain: [layer] }
          await writeFile(join(at, "sandboxes", name, "moving.json"), JSON.stringify(intent))
          for (const step of Object.values(steps).slice(0, index + 1)) await step(at)
        })
        yield* life(
          at,
          Effect.gen(function* () {
            const provider = yield* SandboxProvider
            const copy = SandboxName.make("copy")
            yield* provider.resume(name, Duration.minutes(5))
            yield* boot(copy, id)
            assert.deepStrictEqual([yield* text(name), yield* text(copy)], ["precious", "precious"])
            for (const one of [name, copy]) yield* provider.remove(one)
            yield* provider.removeSnapshot(id)
            assert.deepStrictEqual(yield* Effect.promise(() => readdir(join(at, "layers"))), ["base"])
          })
        )
      }).pipe(Effect.scoped)
    )
  }
})

describe("A snapshot whose file was cut off half-way", () => {
  it.live("stands in nobody's way, and is cleared away", () =>
    Effect.gen(function* () {
      const at = yield* directory
      yield* life(at, Effect.void)
      yield* Effect.promise(() => writeFile(join(at, "snapshots", `${id}.json.cut0ff`), ""))
      yield* life(
        at,
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          yield* boot(name)
          yield* provider.remove(name)
          assert.deepStrictEqual(yield* provider.snapshots(name), [])
        })
      )
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(join(at, "snapshots"))), [])
    }).pipe(Effect.scoped)
  )
})

describe("A start that comes late, after its server's end", () => {
  it.live("brings nothing up: another counts by then", () =>
    Effect.gen(function* () {
      const at = yield* directory
      yield* life(
        at,
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          yield* boot(name)
          yield* provider.stop(name)
          const { isolation, layout } = yield* openProvider({ directory: at })
          const late = isolation.boot(layout.sandbox(name), { name, chain: [], status: "pending" }, "late")
          // Neither beside what a server has stopped, whether that left a mark or not, nor beside what it has brought up.
          yield* Effect.flip(late)
          yield* Effect.promise(() => rm(layout.sandbox(name).init))
          yield* Effect.flip(late)
          assert.deepStrictEqual(initsOf(name), [])
          yield* provider.resume(name, Duration.minutes(5))
          const inits = initsOf(name)
          yield* Effect.flip(late)
          assert.deepStrictEqual(initsOf(name), inits)
          assert.strictEqual(Option.getOrThrow(yield* provider.find(name)).status, "running")
          yield* provider.stop(name)
          assert.deepStrictEqual(initsOf(name), [])
          yield* provider.remove(name)
        })
      )
    }).pipe(Effect.scoped)
  )
})

describe("A create that was cut off", () => {
  it.live("leaves no processes behind: the next server makes the sandbox anew", () =>
    Effect.gen(function* () {
      const at = yield* directory
      const spec = join(at, "sandboxes", name, "spec.json")
      const init = join(at, "sandboxes", name, "init")
      const first = yield* life(
        at,
        Effect.gen(function* () {
          yield* boot(name)
          return Number.parseInt(yield* Effect.promise(() => readFile(init, "utf8")), 10)
        })
      )
      // As it is between the start of the processes and the word that they run.
      yield* Effect.promise(async () => {
        await writeFile(spec, JSON.stringify({ ...JSON.parse(await readFile(spec, "utf8")), status: "pending" }))
      })
      yield* life(
        at,
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          assert.strictEqual((yield* boot(name)).status, "running")
          assert.throws(() => process.kill(first, 0))
          yield* provider.remove(name)
        })
      )
    }).pipe(Effect.scoped)
  )
})

describe("A sandbox whose server is gone", () => {
  it.live("ends by itself once its time is up", () =>
    Effect.gen(function* () {
      const at = yield* directory
      const init = yield* life(
        at,
        Effect.gen(function* () {
          yield* boot(name)
          return Number.parseInt(yield* Effect.promise(() => readFile(join(at, "sandboxes", name, "init"), "utf8")), 10)
        })
      )
      process.kill(init, 0)
      // As if its time had been up long ago; it looks again when its nap is over.
      yield* Effect.promise(() => writeFile(join(at, "sandboxes", name, "deadline"), "1\n"))
      // Between two naps there is none for a moment.
      const nap = Effect.try(() => execFileSync("pgrep", ["-P", String(init), "-x", "sleep"], { encoding: "utf8" }))
      const napping = Effect.retry(nap, { schedule: Schedule.spaced("20 millis"), times: 250 })
      process.kill(Number(yield* napping), "SIGKILL")
      yield* Effect.suspend(() => (isAlive(init) ? Effect.fail("still there") : Effect.void)).pipe(
        Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 100 })
      )
    }).pipe(Effect.scoped)
  )
})

const isAlive = (pid: number) => {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
