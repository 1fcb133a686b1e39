import * as Locks from "../../../src/local/process/Locks.ts"
import { SandboxName } from "@castellan/domain/sandbox/SandboxName.ts"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Latch } from "effect"
import { spawn } from "node:child_process"
import { once } from "node:events"
import { readdir } from "node:fs/promises"
import { temporaryDirectory } from "../temporary.ts"

const name = SandboxName.make("one")

/** A program that takes a sandbox's lock, prints a line, and waits until it is killed. */
const holder = `
import * as Locks from ${JSON.stringify(new URL("../../../src/local/process/Locks.ts", import.meta.url).href)}
import { Effect } from "effect"
const [at, name] = process.argv.slice(1)
setInterval(() => undefined, 1000)
await Effect.runPromise(Locks.make(at).sandbox(name)(Effect.andThen(Effect.sync(() => console.log("held")), Effect.never)))
`

describe("The lock of a sandbox", () => {
  it.live("is independent of other sandboxes' locks, and leaves no file", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const { sandbox } = Locks.make(directory)
      const names = Array.from({ length: 300 }, (_, n) => SandboxName.make(`sandbox-${n}`))
      const all = yield* Latch.make()
      let held = 0
      const hold = Effect.suspend(() => (++held === names.length ? all.open : all.await))
      yield* Effect.forEach(names, (name) => sandbox(name)(hold), { concurrency: "unbounded", discard: true })
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(directory)), [])
    }).pipe(Effect.scoped)
  )

  it.live("is exclusive, although its file is removed with each release", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const { sandbox } = Locks.make(directory)
      let inside = 0
      let most = 0
      const work = Effect.gen(function* () {
        most = Math.max(most, ++inside)
        yield* Effect.yieldNow
        inside--
      })
      yield* Effect.forEach(Array.from({ length: 50 }), () => sandbox(name)(work), { concurrency: "unbounded" })
      assert.strictEqual(most, 1)
    }).pipe(Effect.scoped)
  )

  it.live("is released when its holder's process is killed", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const args = ["--input-type=module-typescript", "--eval", holder, directory, name]
      const child = spawn(process.execPath, args, {
        cwd: import.meta.dirname,
        stdio: ["ignore", "pipe", "inherit"]
      })
      yield* Effect.promise(() => once(child.stdout, "data"))
      const order: Array<string> = []
      const got = yield* Effect.forkChild(Locks.make(directory).sandbox(name)(Effect.sync(() => order.push("taken"))))
      yield* Effect.yieldNow
      order.push("killed")
      child.kill("SIGKILL")
      yield* Fiber.join(got)
      assert.deepStrictEqual(order, ["killed", "taken"])
      assert.deepStrictEqual(yield* Effect.promise(() => readdir(directory)), [])
    }).pipe(Effect.scoped)
  )
})
