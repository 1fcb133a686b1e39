/** The files of a sandbox whose programs do not do what they should: in their place runs whatever a tenant put there. */
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

/** File operations that this script answers, whatever they run; and which processes it wrote down. */
const answeredBy = Effect.fnUntraced(function* (script: string) {
  const directory = yield* Effect.acquireRelease(
    Effect.promise(() => mkdtemp(join(tmpdir(), "castellan-hostile-"))),
    (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
  )
  // The process that starts all others needs a while to come up, which is not what is tried here.
  yield* hardening
  const pids = join(directory, "pids")
  const isolation = {
    userOf: () => false,
    enterCommand: () => ["sh", "-c", script, pids],
    homeDirectory: () => directory
  } as Partial<Isolation> as Isolation
  const files = Files.make(isolation, silence)
  const machine = { files: {}, init: {}, record: {} } as RunningSandbox
  const isGone = (pid: string) =>
    Effect.map(
      Effect.promise(() => readFile(`/proc/${pid}/stat`, "utf8").catch(() => "0 (gone) Z")),
      (stat) => stat.includes(") Z")
    )
  /** Completes once all processes that the script wrote down have ended. */
  const ended = Effect.gen(function* () {
    const all = (yield* Effect.promise(() => readFile(pids, "utf8"))).trim().split("\n")
    for (const pid of all) if (!(yield* isGone(pid))) return yield* Effect.fail(`process ${pid} still lives`)
  }).pipe(Effect.retry({ schedule: Schedule.spaced("20 millis"), times: 250 }))
  return {
    read: Stream.runDrain(files.read(machine, path)),
    readSlowly: Stream.runForEach(files.read(machine, path), () => Effect.sleep(Duration.times(silence, 2))),
    list: files.list(machine, path, page),
    write: <E>(content: Stream.Stream<Uint8Array, E>) => files.write(machine, path, content),
    ended
  }
})

/** What the sandbox did wrong; any other end is one of the test. */
const faultOf = <A, E, R>(asked: Effect.Effect<A, E, R>) =>
  Effect.match(asked, {
    onFailure: (error) => (error instanceof SandboxUnavailable ? error.fault : error),
    onSuccess: () => "none"
  })

const content = Stream.make(new Uint8Array(1024 * 1024))

const note = 'echo "$$" >> "$0"'

describe("A program inside a local sandbox", () => {
  it.live("that is silent ends a read, a write and a listing, and is ended itself", () =>
    Effect.gen(function* () {
      const { ended, list, read, write } = yield* answeredBy(
        `${note}; trap '' TERM; sleep 1000 & echo "$!" >> "$0"; wait`
      )
      assert.deepStrictEqual(
        yield* Effect.all([faultOf(read), faultOf(list), faultOf(write(content))], { concurrency: 3 }),
        ["no_answer", "no_answer", "no_answer"]
      )
      yield* ended
    }).pipe(Effect.scoped)
  )

  it.live("that waits for another to open a pipe ends a read", () =>
    Effect.gen(function* () {
      const { ended, read } = yield* answeredBy(`${note}; mkfifo "$0.pipe"; cat < "$0.pipe"`)
      assert.strictEqual(yield* faultOf(read), "no_answer")
      yield* ended
    }).pipe(Effect.scoped)
  )

  it.live("that takes all bytes and never ends ends a write", () =>
    Effect.gen(function* () {
      const { ended, write } = yield* answeredBy(`${note}; cat > /dev/null; sleep 1000`)
      assert.strictEqual(yield* faultOf(write(content)), "no_answer")
      yield* ended
    }).pipe(Effect.scoped)
  )

  it.live("that leaves another behind with its output does not hold a reader that leaves", () =>
    Effect.gen(function* () {
      const { read } = yield* answeredBy("setsid sleep 2 & exit 0")
      assert.strictEqual(yield* faultOf(read), "no_answer")
    }).pipe(Effect.scoped)
  )

  it.live("that prints garbage for ever ends a listing at once, and is ended itself", () =>
    Effect.gen(function* () {
      const { ended, list } = yield* answeredBy(`${note}; exec yes`)
      assert.strictEqual(yield* faultOf(list), "bad_answer")
      yield* ended
    }).pipe(Effect.scoped)
  )

  it.live("that prints entries for ever ends a listing, however slowly they come", () =>
    Effect.gen(function* () {
      const entry = "printf './%s\\0f\\0000\\0000\\000644\\0\\0' \"$n\"; n=$((n + 1))"
      for (const [script, fault] of [
        [`n=0; while :; do ${entry}; sleep 0.05; done`, "no_answer"],
        ["exec cat /dev/zero", "bad_answer"]
      ] as const) {
        const { ended, list } = yield* answeredBy(`${note}; ${script}`)
        assert.strictEqual(yield* faultOf(list), fault)
        yield* ended
      }
    }).pipe(Effect.scoped)
  )

  it.live("that makes progress is not cut off, however long it takes", () =>
    Effect.gen(function* () {
      const { read } = yield* answeredBy("for n in 1 2 3 4 5 6 7 8 9 10; do printf x; sleep 0.1; done")
      assert.strictEqual(yield* faultOf(read), "none")
    }).pipe(Effect.scoped)
  )

  it.live("is not held responsible for a slow caller", () =>
    Effect.gen(function* () {
      const slow = Stream.mapEffect(Stream.make(1, 2), () =>
        Effect.as(Effect.sleep(Duration.times(silence, 2)), new Uint8Array(100_000))
      )
      const writing = yield* answeredBy("cat > /dev/null")
      assert.strictEqual(yield* faultOf(writing.write(slow)), "none")
      const reading = yield* answeredBy("head -c 100000 /dev/zero")
      assert.strictEqual(yield* faultOf(reading.readSlowly), "none")
    }).pipe(Effect.scoped)
  )
})
