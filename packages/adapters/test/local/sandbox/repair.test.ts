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
import { temporaryDirectory } from "../temporary.ts"

const name = SandboxName.make(`source-${process.pid}`)
const id = SnapshotId.make("snap_cut-off")
const layer = "cut0ff"
const file = SandboxPath.make("file")

/** Uses a provider in a directory that outlives it. */
const withProvider = <A, E>(directory: string, use: Effect.Effect<A, E, SandboxProvider>) =>
  Effect.provide(use, LocalSandbox.layer({ directory }))

const readText = (name: SandboxName) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    provider.readFile(name, file).pipe(Stream.decodeText(), Stream.mkString)
  )

const boot = (name: SandboxName, from?: SnapshotId) =>
  Effect.flatMap(SandboxProvider, (provider) =>
    provider.create({ name, from: Option.fromUndefinedOr(from), lifetime: Duration.minutes(5) })
  )

/** The steps of a snapshot after which its process may be killed, in order. */
const steps: Record<string, (directory: string) => Promise<void>> = {
  "its intent was stored": async () => undefined,
  "its files were moved": async (directory) =>
    rename(join(directory, "sandboxes", name, "upper"), join(directory, "layers", layer)),
  "the chain was extended": async (directory) => {
    const spec = join(directory, "sandboxes", name, "spec.json")
    await writeFile(spec, JSON.stringify({ ...JSON.parse(await readFile(spec, "utf8")), chain: [layer] }))
  },
  "its file was written": async (directory) => {
    const moving = await readFile(join(directory, "sandboxes", name, "moving.json"), "utf8")
    await writeFile(join(directory, "snapshots", `${id}.json`), moving)
  },
  "the new directories were created": async (directory) => {
    await rm(join(directory, "sandboxes", name, "work"), { recursive: true, force: true })
    await mkdir(join(directory, "sandboxes", name, "upper"))
  }
}

describe("A sandbox whose creation was interrupted", () => {
  it.live("is created by the next server with the user that owns its files", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* withProvider(
        directory,
        Effect.flatMap(SandboxProvider, (provider) => Effect.andThen(boot(name), provider.stop(name)))
      )
      const spec = join(directory, "sandboxes", name, "spec.json")
      yield* Effect.promise(async () => {
        const written = JSON.parse(await readFile(spec, "utf8")) as object
        await writeFile(spec, JSON.stringify({ ...written, status: "pending" }))
      })
      yield* withProvider(
        directory,
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          yield* boot(name)
          yield* provider.writeFile(name, file, Stream.make(new TextEncoder().encode("mine")))
          assert.strictEqual(yield* readText(name), "mine")
          yield* provider.remove(name)
        })
      )
    }).pipe(Effect.scoped)
  )
})

describe("A snapshot that was interrupted", () => {
  for (const [index, reached] of Object.keys(steps).entries()) {
    it.live(`is completed by the next server, without loss of files, if its server was killed after ${reached}`, () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory
        yield* withProvider(
          directory,
          Effect.gen(function* () {
            const provider = yield* SandboxProvider
            yield* boot(name)
            yield* provider.writeFile(name, file, Stream.make(new TextEncoder().encode("precious")))
            yield* provider.stop(name)
          })
        )
        yield* Effect.promise(async () => {
          const intent = { id, source: name, createdAt: 1, chain: [layer] }
          await writeFile(join(directory, "sandboxes", name, "moving.json"), JSON.stringify(intent))
          for (const step of Object.values(steps).slice(0, index + 1)) await step(directory)
        })
        yield* withProvider(
          directory,
          Effect.gen(function* () {
            const provider = yield* SandboxProvider
            const copy = SandboxName.make("copy")
            yield* provider.resume(name, Duration.minutes(5))
            yield* boot(copy, id)
            assert.deepStrictEqual([yield* readText(name), yield* readText(copy)], ["precious", "precious"])
            for (const one of [name, copy]) yield* provider.remove(one)
            yield* provider.removeSnapshot(id)
            assert.deepStrictEqual(yield* Effect.promise(() => readdir(join(directory, "layers"))), ["base"])
          })
        )
      }).pipe(Effect.scoped)
    )
  }
})

describe("A snapshot file that was not completely written", () => {
  it.live("is ignored and removed", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* withProvider(directory, Effect.void)
      yield* Effect.promise(() => writeFile(join(directory, "snapshots", `${id}.json.cut0ff`), ""))
      yield* withProvider(
        directory,
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          yield* boot(name)
          yield* provider.remove(name)
          assert.deepStrictEqual(yield* provider.snapshots(name), [])
        })
      )
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(join(directory, "snapshots"))), [])
    }).pipe(Effect.scoped)
  )
})

describe("A start that runs late, after its server died", () => {
  it.live("starts no process if its token no longer counts", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      yield* withProvider(
        directory,
        Effect.gen(function* () {
          const provider = yield* SandboxProvider
          yield* boot(name)
          yield* provider.stop(name)
          const { isolation, layout } = yield* openProvider({ directory })
          const late = isolation.boot(layout.sandbox(name), { name, chain: [], status: "pending" }, "late")
          // The sandbox is stopped, with and without the file of its first process; then it runs.
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

describe("A sandbox whose server was killed after it started the processes", () => {
  it.live("is created again by the next server, which kills the old processes", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const spec = join(directory, "sandboxes", name, "spec.json")
      const init = join(directory, "sandboxes", name, "init")
      const first = yield* withProvider(
        directory,
        Effect.gen(function* () {
          yield* boot(name)
          return Number.parseInt(yield* Effect.promise(() => readFile(init, "utf8")), 10)
        })
      )
      // The record as it is after the start of the processes and before they count as running.
      yield* Effect.promise(async () => {
        await writeFile(spec, JSON.stringify({ ...JSON.parse(await readFile(spec, "utf8")), status: "pending" }))
      })
      yield* withProvider(
        directory,
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

describe("A sandbox without a server", () => {
  it.live("ends by itself at the end of its lifetime", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const init = yield* withProvider(
        directory,
        Effect.gen(function* () {
          yield* boot(name)
          return Number.parseInt(
            yield* Effect.promise(() => readFile(join(directory, "sandboxes", name, "init"), "utf8")),
            10
          )
        })
      )
      process.kill(init, 0)
      // A deadline in the past, which the timekeeper reads after its sleep.
      yield* Effect.promise(() => writeFile(join(directory, "sandboxes", name, "deadline"), "1\n"))
      // Between two sleeps there is no `sleep` process for a moment.
      const findSleep = Effect.try(() =>
        execFileSync("pgrep", ["-P", String(init), "-x", "sleep"], { encoding: "utf8" })
      )
      const sleeping = Effect.retry(findSleep, { schedule: Schedule.spaced("20 millis"), times: 250 })
      process.kill(Number(yield* sleeping), "SIGKILL")
      yield* Effect.suspend(() => (isAlive(init) ? Effect.fail("still alive") : Effect.void)).pipe(
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
