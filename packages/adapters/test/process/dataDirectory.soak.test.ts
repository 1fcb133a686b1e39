import * as DataDirectory from "@castellan/adapters/process/DataDirectory.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { spawnSync } from "node:child_process"
import { mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"

const temporary = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "castellan-data-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

const mebibytes = (count: number) => Buffer.alloc(count * 1024 * 1024)

/** A separate file system of that many MiB. Only root may create one. */
const diskOf = (size: number) =>
  Effect.gen(function* () {
    const directory = yield* temporary
    const mounted = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}m`, "tmpfs", directory])
    assert.strictEqual(mounted.status, 0, String(mounted.stderr))
    yield* Effect.addFinalizer(() => Effect.sync(() => void spawnSync("umount", ["-l", directory])))
    return directory
  })

const canMount = spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "tmpfs", tmpdir()]).status === 0

/** Waits for that problem. */
const until = (problem: Effect.Effect<string | undefined>, is: (now: string | undefined) => boolean) =>
  problem.pipe(
    Effect.filterOrFail(is, (now) => new Error(`it is: ${now}`)),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 600 })
  )

describe("The data directory", () => {
  it.live("is reported as missing or replaced at once, like its parts", () =>
    Effect.gen(function* () {
      const directory = join(yield* temporary, "data")
      const part = join(directory, "part")
      const restored = () => {
        mkdirSync(directory)
        writeFileSync(part, "")
      }
      restored()
      const problem = yield* DataDirectory.watch(directory, [part])
      assert.isUndefined(yield* problem)
      renameSync(part, `${part}.away`)
      assert.strictEqual(yield* problem, "is missing")
      writeFileSync(part, "")
      assert.strictEqual(yield* problem, "was replaced")
      renameSync(`${part}.away`, part)
      assert.isUndefined(yield* problem)
      rmSync(directory, { recursive: true })
      assert.strictEqual(yield* problem, "is missing")
      restored()
      assert.strictEqual(yield* problem, "was replaced")
    }).pipe(Effect.scoped)
  )

  it.live.skipIf(!canMount)("is reported as nearly full, full or read-only until that is over", () =>
    Effect.gen(function* () {
      const directory = yield* diskOf(96)
      const filler = join(directory, "filler")
      const problem = yield* DataDirectory.watch(directory)
      assert.isUndefined(yield* problem)
      writeFileSync(filler, mebibytes(64))
      yield* until(
        problem,
        (now) => now === "is nearly full: 32 MiB are left" || now === "is nearly full: 31 MiB are left"
      )
      assert.throws(() => writeFileSync(filler, mebibytes(100)), /ENOSPC/)
      yield* until(problem, (now) => now === "is full")
      rmSync(filler)
      yield* until(problem, (now) => now === undefined)
      assert.strictEqual(spawnSync("mount", ["-o", "remount,ro", directory]).status, 0)
      yield* until(problem, (now) => now === "can't be written (EROFS)")
    }).pipe(Effect.scoped)
  )
})
