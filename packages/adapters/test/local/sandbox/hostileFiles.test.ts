/** Tests file operations against hostile programs inside: a tenant's program runs instead of the expected one. */
import * as Files from "../../../src/local/sandbox/Files.ts"
import type { Isolation, RunningSandbox } from "../../../src/local/isolation/Isolation.ts"
import { hardening } from "../../../src/local/process/Spawner.ts"
import { SandboxPath } from "@castellan/domain/sandbox/SandboxFile.ts"
import { SandboxUnavailable } from "@castellan/domain/sandbox/SandboxProvider.ts"
import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Schedule, Stream } from "effect"
import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

const path = SandboxPath.make("file")
const page = { depth: 64, limit: 1000 }
const silence = Duration.millis(400)

/** File operations that run this script instead of their own. The script writes the numbers of its processes to `$0`. */
const filesAnsweredBy = Effect.fnUntraced(function* (script: string) {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-hostile-"))),
    (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
  )
  // Starts the spawner first, so that its start does not count as silence.
  yield* hardening
  const pids = join(directory, "pids")
  const isolation = {
    userOf: () => false,
    enterCommand: () => ["sh", "-c", script, pids],
    homeDirectory: () => directory
  } as Partial<Isolation> as Isolation
  const files = Files.make(isolation, silence)
  const sandbox = { files: {}, init: {}, record: {} } as RunningSandbox
  const hasEnded = (pid: string) =>
    Effect.map(
      Effect.promise(() => readFile(`/proc/${pid}/stat`, "utf8").catch(() => "0 (gone) Z")),
      (stat) => stat.includes(") Z")
    )
  /** Succeeds once all processes of the script have ended. */
  const ended = Effect.gen(function* () {
    const all = (yield* Effect.promise(() => readFile(pids, "utf8"))).trim().split("\n")
    for (const pid of all) if (!(yield* hasEnded(pid))) return yield* Effect.fail(`process ${pid} is still alive`)
  }).pipe(Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 250 }))
  return {
    read: Stream.runDrain(files.read(sandbox, path)),
    readSlowly: Stream.runForEach(files.read(sandbox, path), () => Effect.sleep(Duration.times(silence, 2))),
    list: files.list(sandbox, path, page),
    write: <E>(content: Stream.Stream<Uint8Array, E>) => files.write(sandbox, path, content),
    ended
  }
})

/** The fault of the sandbox, `none` for a success, or another error as it is. */
const faultOf = <A, E, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.match(effect, {
    onFailure: (error) => (error instanceof SandboxUnavailable ? error.fault : error),
    onSuccess: () => "none"
  })

const content = Stream.make(new Uint8Array(1024 * 1024))

const note = 'echo "$$" >> "$0"'

describe("A file operation of a local sandbox", () => {
  it.live("fails if the program inside is silent, and kills the program", () =>
    Effect.gen(function* () {
      const { ended, list, read, write } = yield* filesAnsweredBy(
        `${note}; trap '' TERM; sleep 1000 & echo "$!" >> "$0"; wait`
      )
      assert.deepStrictEqual(
        yield* Effect.all([faultOf(read), faultOf(list), faultOf(write(content))], { concurrency: 3 }),
        ["no_answer", "no_answer", "no_answer"]
      )
      yield* ended
    }).pipe(Effect.scoped)
  )

  it.live("fails if the program inside blocks on a named pipe", () =>
    Effect.gen(function* () {
      const { ended, read } = yield* filesAnsweredBy(`${note}; mkfifo "$0.pipe"; cat < "$0.pipe"`)
      assert.strictEqual(yield* faultOf(read), "no_answer")
      yield* ended
    }).pipe(Effect.scoped)
  )

  it.live("fails if the program inside reads everything and never exits", () =>
    Effect.gen(function* () {
      const { ended, write } = yield* filesAnsweredBy(`${note}; cat > /dev/null; sleep 1000`)
      assert.strictEqual(yield* faultOf(write(content)), "no_answer")
      yield* ended
    }).pipe(Effect.scoped)
  )

  it.live("fails if the program inside exits and leaves its output open", () =>
    Effect.gen(function* () {
      const { read } = yield* filesAnsweredBy("setsid sleep 2 & exit 0")
      assert.strictEqual(yield* faultOf(read), "no_answer")
    }).pipe(Effect.scoped)
  )

  it.live("fails a listing of endless garbage, and kills the program", () =>
    Effect.gen(function* () {
      const { ended, list } = yield* filesAnsweredBy(`${note}; exec yes`)
      assert.strictEqual(yield* faultOf(list), "bad_answer")
      yield* ended
    }).pipe(Effect.scoped)
  )

  it.live("fails a listing of endless entries at any speed", () =>
    Effect.gen(function* () {
      const entry = "printf './%s\\0f\\0000\\0000\\000644\\0\\0' \"$n\"; n=$((n + 1))"
      for (const [script, fault] of [
        [`n=0; while :; do ${entry}; sleep 0.05; done`, "no_answer"],
        ["exec cat /dev/zero", "bad_answer"]
      ] as const) {
        const { ended, list } = yield* filesAnsweredBy(`${note}; ${script}`)
        assert.strictEqual(yield* faultOf(list), fault)
        yield* ended
      }
    }).pipe(Effect.scoped)
  )

  it.live("succeeds with a slow program inside that makes progress", () =>
    Effect.gen(function* () {
      const { read } = yield* filesAnsweredBy("for n in 1 2 3 4 5 6 7 8 9 10; do printf x; sleep 0.1; done")
      assert.strictEqual(yield* faultOf(read), "none")
    }).pipe(Effect.scoped)
  )

  it.live("does not fail because of a slow caller", () =>
    Effect.gen(function* () {
      const slow = Stream.mapEffect(Stream.make(1, 2), () =>
        Effect.as(Effect.sleep(Duration.times(silence, 2)), new Uint8Array(100_000))
      )
      const writing = yield* filesAnsweredBy("cat > /dev/null")
      assert.strictEqual(yield* faultOf(writing.write(slow)), "none")
      const reading = yield* filesAnsweredBy("head -c 100000 /dev/zero")
      assert.strictEqual(yield* faultOf(reading.readSlowly), "none")
    }).pipe(Effect.scoped)
  )
})
